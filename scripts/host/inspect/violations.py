"""Find what must not be in an image: secrets, leftovers of the build, too wide permissions.

Files are judged by path, mode and, for small texts, content. Contents are never reported.
"""

import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# A secret is small. Larger files are libraries, models and pictures, and are not read.
TEXT_LIMIT: Final = 256 * 1024

# Formats that their issuers document: Hugging Face, GitHub, GitLab, AWS (whose documentation's own
# examples end in EXAMPLE), RunPod, PyPI, npm, and PEM with at least a line of key in it.
_TOKEN: Final = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}"
    rb"|glpat-[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b"
    rb"|rpa_[A-Z0-9]{30,}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}|npm_[A-Za-z0-9]{36})"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[A-Za-z-]+: .*\s+)*[A-Za-z0-9+/=]{60}"
)
# Searched first: most texts have none of them, and this is many times faster.
_BEGINNINGS: Final = (
    *(b"hf_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"AKIA"),
    *(b"ASIA", b"rpa_", b"pypi-AgE", b"npm_", b"PRIVATE KEY-----"),
)
# Not secret: transformers publishes a token that its own tests use.
_PUBLISHED: Final = ("/site-packages/transformers/testing_utils.py",)
_KEY_FILE: Final = re.compile(
    r"/(?:\.netrc|\.git-credentials|\.pypirc|\.aws/credentials|\.config/gh/hosts\.yml"
    r"|\.ssh/id_\w+|huggingface/(?:token|stored_tokens))$|^/run/secrets/."
)
_DOCKER_LOGIN: Final = re.compile(rb'"(?:auth|identitytoken)"\s*:')
# What it is, and a pattern whose match is the path reported: one line for a cache, not thousands.
_LEFTOVERS: Final = (
    # An extension is listed by a `.git` of one commit, which has no packs.
    (
        "history of git",
        re.compile(r"(?!/opt/extensions/[^/]+/\.git(?:/(?!objects/pack/)|$)).*/\.git(?=/|$)"),
    ),
    ("cache", re.compile(r"/(?:root|home/[^/]+)/\.cache/[^/]+")),
    ("pip's cache", re.compile(r".*/pip/(?:http|http-v2|wheels|selfcheck)(?=/)")),
    ("uv's cache", re.compile(r".*(?=/(?:archive|builds|sdists|simple|wheels)-v\d+/)")),
    ("apt's packages", re.compile(r"/var/cache/apt/(?:archives/[^/]+\.deb|[^/]+\.bin)$")),
    ("apt's lists", re.compile(r"/var/lib/apt/lists(?=/(?!lock$|partial)[^/]+$)")),
    ("conda's packages", re.compile(r"/opt/conda/pkgs(?=/)")),
    (
        "tools of the build",
        re.compile(r"/(?:tools|build|clip)(?=/)|/(?:requirements|runpod)\.txt$"),
    ),
)


@dataclass(frozen=True)
class Violation:
    """Something that must not be in an image.

    Args:
        code: in `scripts.common.diagnostics.table`.
        path: in the layer, or the name of a variable, label or build step.
        what: kind of what was found there.
        layer: its number, 1 for the lowest above the base; 0 for the image's config.
        gone: whether a later layer hides it; its bytes are in the image all the same.
    """

    code: str
    path: str
    what: str
    layer: int = 0
    gone: bool = False


def find_violations(path: str, member: tarfile.TarInfo, text: bytes) -> Iterator[Violation]:
    """Check one file or folder of a layer.

    Args:
        path: from the root, such as /etc/passwd.
        member: the layer's record of it.
        text: its content, if it is a small text.
    """
    is_file = member.isfile()
    if is_file and member.size and (what := _secret(path, text)):
        yield Violation("secret-in-image", path, what)
    if (is_file and member.size) or path.endswith("/.git"):
        for what, place in _LEFTOVERS:
            if found := place.match(path):
                yield Violation("leftovers", found[0], what)
    sticky_folder = member.isdir() and member.mode & stat.S_ISVTX
    if (is_file or member.isdir()) and member.mode & stat.S_IWOTH and not sticky_folder:
        yield Violation("world-writable", path, f"mode {member.mode & 0o7777:o}")
    if is_file and member.mode & (stat.S_ISUID | stat.S_ISGID):
        yield Violation("setuid-file", path, f"mode {member.mode & 0o7777:o}")


def _secret(path: str, text: bytes) -> str:
    """Return the kind of secret that a file seems to hold; empty for none."""
    if _KEY_FILE.search(path):
        return "credentials by name"
    if path.endswith("/.docker/config.json") and _DOCKER_LOGIN.search(text):
        return "credentials of docker login"
    if has_token(text) and not path.endswith(_PUBLISHED):
        return "a token or key"
    return ""


def has_token(text: bytes) -> bool:
    """Return whether a text holds what has the format of a token or a private key."""
    return any(word in text for word in _BEGINNINGS) and bool(_TOKEN.search(text))


def find_config_secrets(
    environment: Sequence[str], labels: Mapping[str, str], history: Sequence[str]
) -> tuple[Violation, ...]:
    """Find variables, labels and build steps that hold what looks like a secret.

    Args:
        environment: NAME=value of the image's config.
        labels: of the image.
        history: its instructions, first to last.
    """
    pairs = [text.partition("=")[::2] for text in environment]
    texts = [(f"variable {name}", value) for name, value in pairs]
    texts += [(f"label {name}", value) for name, value in labels.items()]
    texts += [(f"step {number} of the history", text) for number, text in enumerate(history, 1)]
    return tuple(
        Violation("secret-in-image", place, "a token or key")
        for place, text in texts
        if has_token(text.encode())
    )


def redact(text: str) -> str:
    """Replace what looks like a secret in a text by asterisks."""
    return _TOKEN.sub(b"***", text.encode()).decode()

"""Find what must not be in an image: secrets, leftovers of the build, too wide permissions.

Files are judged by path, mode and, for small texts, content. Contents are never reported.
"""

import re
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.common.secrets import has_token

# A secret is small. Larger files are libraries, models and pictures, and are not read.
TEXT_LIMIT: Final = 256 * 1024

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

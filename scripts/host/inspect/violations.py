"""What must not be in a layer: secrets, leftovers of the build, permissions that are too wide.

Judged by path, mode and, for small texts, content. Names are told, contents never.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["file", "folder", "link", "symlink", "other"]
# A secret is small. Larger files are libraries, models and pictures, and are not read.
TEXT_LIMIT: Final = 256 * 1024

# Forms that their makers document: Hugging Face, GitHub, GitLab, AWS (whose documentation's own
# examples end in EXAMPLE), RunPod, PyPI, npm, and PEM with at least a line of key in it.
_TOKEN: Final = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}"
    rb"|glpat-[A-Za-z0-9_-]{20,}|(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b"
    rb"|rpa_[A-Z0-9]{30,}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}|npm_[A-Za-z0-9]{36})"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[A-Za-z-]+: .*\s+)*[A-Za-z0-9+/=]{60}"
)
# Looked for first, because most texts have none of them and this is many times faster.
_BEGINNINGS: Final = (
    *(b"hf_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"AKIA"),
    *(b"ASIA", b"rpa_", b"pypi-AgE", b"npm_", b"PRIVATE KEY-----"),
)
# No secrets: transformers publishes a token that its own tests use.
_PUBLISHED: Final = ("/site-packages/transformers/testing_utils.py",)
_KEY_FILE: Final = re.compile(
    r"/(?:\.netrc|\.git-credentials|\.pypirc|\.aws/credentials|\.config/gh/hosts\.yml"
    r"|\.ssh/id_\w+|huggingface/(?:token|stored_tokens))$|^/run/secrets/."
)
_DOCKER_LOGIN: Final = re.compile(rb'"(?:auth|identitytoken)"\s*:')
# Each with the part of the path that is told, so that a cache is one line and not ten thousand.
_LEFTOVERS: Final = (
    ("history of git", re.compile(r".*/\.git(?=/|$)")),
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
class Entry:
    """One entry of a layer.

    Args:
        path: from the root, such as /etc/passwd.
        kind: of file.
        size: in bytes.
        mode: permission bits.
        target: of a hard link, the path it is another name of.
        text: of a small file its content, for judging only.
    """

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0o644
    target: str = ""
    text: bytes = b""


@dataclass(frozen=True)
class Flaw:
    """Something that must not be there: its code in the diagnostics table, where and what."""

    code: str
    path: str
    what: str


def flaws_of(entry: Entry) -> Iterator[Flaw]:
    """What is wrong with one entry of a layer."""
    if entry.kind == "file" and entry.size and (what := _secret(entry)):
        yield Flaw("secret-in-image", entry.path, what)
    if (entry.kind == "file" and entry.size) or entry.path.endswith("/.git"):
        for what, place in _LEFTOVERS:
            if found := place.match(entry.path):
                yield Flaw("leftovers", found[0], what)
    sticky_folder = entry.kind == "folder" and entry.mode & stat.S_ISVTX
    if entry.kind in ("file", "folder") and entry.mode & stat.S_IWOTH and not sticky_folder:
        yield Flaw("world-writable", entry.path, f"mode {entry.mode & 0o7777:o}")
    if entry.kind == "file" and entry.mode & (stat.S_ISUID | stat.S_ISGID):
        yield Flaw("setuid-file", entry.path, f"mode {entry.mode & 0o7777:o}")


def _secret(entry: Entry) -> str:
    """What kind of secret a file seems to hold; empty for none."""
    if _KEY_FILE.search(entry.path):
        return "credentials by name"
    if entry.path.endswith("/.docker/config.json") and _DOCKER_LOGIN.search(entry.text):
        return "credentials of docker login"
    if has_token(entry.text) and not entry.path.endswith(_PUBLISHED):
        return "a token or key"
    return ""


def has_token(text: bytes) -> bool:
    """Whether a text holds something that has the form of a token or a private key."""
    return any(word in text for word in _BEGINNINGS) and bool(_TOKEN.search(text))


def secrets_told(
    environment: Sequence[str], labels: Mapping[str, str], history: Sequence[str]
) -> tuple[str, ...]:
    """Names of variables, labels and build steps that hold what looks like a secret.

    Args:
        environment: NAME=value of the image's config.
        labels: of the image.
        history: its instructions, first to last.
    """
    pairs = [text.partition("=")[::2] for text in environment]
    told = [(f"variable {name}", value) for name, value in pairs]
    told += [(f"label {name}", value) for name, value in labels.items()]
    told += [(f"step {number} of the history", text) for number, text in enumerate(history, 1)]
    return tuple(place for place, text in told if has_token(text.encode()))


def redacted(text: str) -> str:
    """A text that is told, with asterisks for what looks like a secret."""
    return _TOKEN.sub(b"***", text.encode()).decode()

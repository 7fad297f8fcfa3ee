"""Every known failure: a code, a sentence and a cure.

`invoke doctor`, the container's preflight, the smoke tests and the README's troubleshooting all
speak from this table, so a failure has the same name wherever it shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Finding:
    """One known failure.

    Args:
        code: its stable name, lower case with hyphens.
        sentence: what is wrong, for a person.
        cure: what to do next.
        signature: a regular expression that recognises it in a log; empty where none does.
    """

    code: str
    sentence: str
    cure: str
    signature: str = ""


_ROWS: Final = (
    Finding(
        "engine-missing",
        "No Docker engine answers.",
        "start it, or run: scripts/bootstrap --yes invoke doctor",
        signature=r"Cannot connect to the Docker daemon",
    ),
    Finding(
        "buildx-missing",
        "The Docker engine has no buildx, or one older than 0.13.",
        "install it; on Debian and Ubuntu: apt-get install docker-buildx",
    ),
    Finding(
        "source-gone",
        "A git source or its commit cannot be fetched.",
        "check mirrors.github, or give another repo in a1111.sources",
        signature=r"fetch-source: cannot fetch",
    ),
    Finding(
        "torch-replaced",
        "A Python package brought its own torch, or xformers is made for another one.",
        "run: invoke pin --python",
        signature=r"check-packages: ",
    ),
    Finding(
        "image-untested",
        "The image has no passing smoke report.",
        "run: nox -s smoke; or take the risk: invoke push --untested",
    ),
    Finding(
        "registry-refused",
        "The registry refuses these credentials, or there are none for it.",
        "run: docker login REGISTRY, with an account that may push to image.repository",
        signature=r"no basic auth credentials|unauthorized: |(?<!ermission )denied: "
        r"|insufficient_scope|40[13] (?:Unauthorized|Forbidden)|HTTP (?:status: )?40[13]\b",
    ),
    Finding(
        "registry-lost",
        "The registry does not answer, or stopped answering during a push.",
        "once it answers, run the push again: layers that are up stay up",
    ),
    Finding(
        "disk-full",
        "The disk is full.",
        "free space: invoke models.prune, docker builder prune",
        signature=r"No space left on device|ENOSPC",
    ),
)

FINDINGS: Final = {row.code: row for row in _ROWS}

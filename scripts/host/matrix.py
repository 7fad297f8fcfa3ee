"""Says what CI has to run, so that `config.yaml` and `pyproject.toml` stay the only places."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.common.errors import Failure
from scripts.host.config.load import ROOT, load

_REQUIRES = re.compile(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Matrix:
    """Lists as a CI's matrix takes them.

    Args:
        python: versions the unit tests run on.
        variants: every variant, for building and for smoke tests without a GPU.
        gpu: the variants that a GPU has to prove as well.
    """

    python: tuple[str, ...]
    variants: tuple[str, ...]
    gpu: tuple[str, ...]

    def as_json(self) -> str:
        """One line, as a CI's step output wants it."""
        return json.dumps(asdict(self))


def matrix(root: Path = ROOT) -> Matrix:
    """The matrix of a checkout.

    Raises:
        Failure: the config does not load, for some variant.
    """
    variants = tuple(load(root=root).config.variants)
    accelerators = {name: load(name, root=root).config.build.accelerator for name in variants}
    return Matrix(
        python=pythons(root),
        variants=variants,
        gpu=tuple(name for name in variants if accelerators[name] == "cuda"),
    )


def pythons(root: Path = ROOT) -> tuple[str, ...]:
    """The versions of Python that `pyproject.toml` allows.

    Raises:
        Failure: it does not say so as a range of minor versions.
    """
    match = _REQUIRES.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not match:
        raise Failure(
            "requires-python is no range of minor versions",
            where="pyproject.toml",
            cure='write it like ">=3.10,<3.14"',
        )
    return tuple(f"3.{minor}" for minor in range(int(match[1]), int(match[2])))

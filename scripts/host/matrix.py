"""Says what CI has to run, so that `config.yaml` and `pyproject.toml` stay the only places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import ROOT, load

_REQUIRES = re.compile(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Matrix:
    """Lists as a CI's matrix takes them.

    Args:
        python: versions the unit tests run on.
        variants: every variant, for building and for smoke tests without a GPU.
        cpu: the variants that such a smoke test proves whole.
        gpu: the variants that a GPU has to prove before they ship.
        runner: labels of machines without a GPU.
        gpu_runner: labels of machines with one; empty where there is none.
        repositories: where each variant is pushed to, its registry always spelled out.
    """

    python: tuple[str, ...]
    variants: tuple[str, ...]
    cpu: tuple[str, ...]
    gpu: tuple[str, ...]
    runner: tuple[str, ...]
    gpu_runner: tuple[str, ...]
    repositories: dict[str, str]


def matrix(root: Path = ROOT) -> Matrix:
    """The matrix of a checkout.

    Raises:
        UserError: the config does not load, for some variant.
    """
    from docker.auth import resolve_repository_name

    base = load(root=root).config
    configs = {name: load(name, root=root).config for name in base.variants}
    return Matrix(
        python=pythons(root),
        variants=tuple(configs),
        cpu=tuple(name for name, it in configs.items() if it.build.accelerator == "cpu"),
        gpu=tuple(name for name, it in configs.items() if it.build.accelerator == "cuda"),
        runner=base.ci.runner,
        gpu_runner=base.ci.gpu_runner,
        repositories={
            name: "/".join(resolve_repository_name(it.image.repository))
            for name, it in configs.items()
        },
    )


def pythons(root: Path = ROOT) -> tuple[str, ...]:
    """The versions of Python that `pyproject.toml` allows.

    Raises:
        UserError: it does not say so as a range of minor versions.
    """
    match = _REQUIRES.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not match:
        raise UserError(
            "requires-python is no range of minor versions",
            location="pyproject.toml",
            hint='write it like ">=3.10,<3.14"',
        )
    return tuple(f"3.{minor}" for minor in range(int(match[1]), int(match[2])))

"""List what CI runs, from `config.yaml` and `pyproject.toml`."""

from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import DEFAULT_VARIANT, ROOT, load_variants


@dataclass(frozen=True)
class Matrix:
    """Lists as a CI's matrix takes them.

    Args:
        python: versions that the unit tests run on.
        variants: all variants that have a runner, to build and to smoke test without a GPU.
        cpu: variants that such a smoke test proves completely.
        gpu: variants that a GPU has to prove before they are pushed.
        runner: labels of machines without a GPU.
        gpu_runner: labels of machines with one; empty for none.
        repositories: repository of each variant, with its registry.
    """

    python: tuple[str, ...]
    variants: tuple[str, ...]
    cpu: tuple[str, ...]
    gpu: tuple[str, ...]
    runner: tuple[str, ...]
    gpu_runner: tuple[str, ...]
    repositories: dict[str, str]


def matrix(root: Path = ROOT) -> Matrix:
    """Return the matrix of a checkout.

    Raises:
        UserError: the config of a variant does not load, or no version of Python is listed.
    """
    from docker.auth import resolve_repository_name
    from nox import project

    try:
        python = tuple(project.python_versions(project.load_toml(root / "pyproject.toml")))
    except ValueError as error:
        raise UserError(str(error), location="pyproject.toml", hint="list them there") from None
    loaded = {each.variant: each.config for each in load_variants(root=root)}
    ci = loaded[DEFAULT_VARIANT].ci
    configs = {name: config for name, config in loaded.items() if config.ci.runner}

    def drawing_on(accelerator: str) -> tuple[str, ...]:
        return tuple(name for name, it in configs.items() if it.build.accelerator == accelerator)

    return Matrix(
        python=python,
        variants=tuple(configs),
        cpu=drawing_on("cpu"),
        gpu=drawing_on("cuda"),
        runner=ci.runner,
        gpu_runner=ci.gpu_runner,
        repositories={
            name: "/".join(resolve_repository_name(config.image.repository))
            for name, config in configs.items()
        },
    )

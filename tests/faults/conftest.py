"""Images that are broken on purpose, as thin layers on those that the engine tests build.

`SMOKE_CPU_IMAGE` and `SMOKE_CUDA_IMAGE` name images that are there already; without them they are
built as the engine tests build theirs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.common.checks.smoke_report import SmokeReport
from scripts.host.engine.client import client
from tests.engine.conftest import (  # noqa: F401 - what engine tests need, these need too
    cpu_image,
    cuda_image,
    image_config,
    model_store,
    pytest_configure_node,
    pytest_runtest_setup,
    pytest_sessionstart,
    pytest_unconfigure,
)
from tests.support.running import build_image
from tests.support.smoke_reports import run_smoke_checks

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Broken:
    """One broken image.

    Args:
        name: of the fault.
        code: that the smoke checks must give it.
        lines: of its Dockerfile, after FROM.
        only: checks to run (`pytest -k`), so that it takes seconds.
        variant: of the image that it is built on.
        config: overrides of the config.
        group: faults of one group are in one image: each image's layers are read for seconds.
    """

    name: str
    code: str
    lines: tuple[str, ...]
    only: str
    variant: str = "cpu"
    config: str = ""
    group: str = ""


Smoke = Callable[..., SmokeReport]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.engine)
        item.add_marker(pytest.mark.slow)


@pytest.fixture
def smoke(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Smoke]:
    """Build a broken image, run its smoke checks as a user does, and remove the image."""
    made: list[str] = []

    def run(*group: Broken) -> SmokeReport:
        first = group[0]
        tag = f"a1111-worker-broken:{first.name}"
        lines = (line for broken in group for line in broken.lines)
        build_image(tag, "\n".join((f"FROM {_base(request, first.variant)}", *lines, "")))
        made.append(tag)
        config = tmp_path / "config.yaml"
        config.write_text(first.config or "{}\n", encoding="utf-8")
        only = " or ".join(broken.only for broken in group)
        selection = ("tests/smoke", "-k", only)
        _, report = run_smoke_checks(
            tag, *selection, variant=first.variant, config=config, folder=tmp_path
        )
        return report

    yield run
    for tag in made:
        client().images.remove(tag, force=True)


def _base(request: pytest.FixtureRequest, variant: str) -> str:
    kind = "cpu" if variant == "cpu" else "cuda"
    named = os.environ.get(f"SMOKE_{kind.upper()}_IMAGE")
    return named or str(request.getfixturevalue(f"{kind}_image"))

"""The check of the table of lazy packages fails on rows that do not hold or no longer matter."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from scripts.common.checks.lazy_packages_check import lazy_packages_fit

FITS = {"imported": True, "loaded_by": "", "untaken": []}


@dataclass
class Answering:
    """A worker whose commands print a text."""

    output: str
    log: str = ""
    phases: dict[str, float] = field(default_factory=dict)

    def run(self, *_: str, user: str = "") -> str:
        return self.output + user

    def stop(self, seconds: float) -> None: ...


def start(
    *lines: str,
    accelerator: str = "cpu",
    extensions: int = 0,
    is_complete: bool = True,
    **row: object,
) -> Answering:
    facts = {
        "accelerator": accelerator,
        "extensions": extensions,
        "start": {"is_complete": is_complete, "packages": {"p": {**FITS, **row}}},
    }
    return Answering("\n".join([json.dumps(facts), *lines]))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"imported": False}, "nobody imports p"),
        ({"loaded_by": "modules.shared"}, "modules.shared uses p at once"),
        ({"untaken": ["a: p.b"]}, "not taken: a: p.b"),
    ],
)
def test_a_row_that_no_longer_matters_fails(row: dict[str, object], problem: str) -> None:
    found = lazy_packages_fit.run(start(**row))  # type: ignore[arg-type]
    assert found.outcome == "failed"
    assert found.evidence.endswith(f"; {problem}")
    # An extension may use a package, packages for GPUs import others, another WebUI imports none.
    for elsewhere in ({"extensions": 1}, {"accelerator": "cuda"}, {"is_complete": False}):
        found = lazy_packages_fit.run(start(**elsewhere, **row))  # type: ignore[arg-type]
        assert found.outcome == "passed"


def test_a_name_that_a_package_does_not_have_fails() -> None:
    found = lazy_packages_fit.run(start("p: p.gone", extensions=1))
    assert found.outcome == "failed"
    assert "p: p.gone" in found.evidence


def test_a_table_that_fits_passes() -> None:
    assert lazy_packages_fit.run(start()).outcome == "passed"


def test_the_check_is_skipped_where_nothing_is_lazy() -> None:
    assert lazy_packages_fit.run(Answering("off")).outcome == "skipped"

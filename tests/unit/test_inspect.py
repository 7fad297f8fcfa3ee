"""What `invoke inspect` makes of the facts: folders, packages, differences and budgets."""

from __future__ import annotations

import pytest

from scripts.host.config.load import load
from scripts.host.docker.inspect import (
    Inspection,
    difference,
    folder_sizes,
    over_budget,
    packages,
    shown,
    shown_difference,
)
from scripts.host.docker.report import LayerRecord

BASE, OWN, BIG = (
    LayerRecord(size=count, instruction=words)
    for count, words in ((5000, "base"), (100, "COPY a"), (900, "COPY b"))
)
FOUND = Inspection(
    image="a/b:c",
    image_id="sha256:1",
    size=6000,
    base_size=5000,
    layers=(BASE, OWN, BIG),
    folders={"/": 6144},
    packages={"apt:git": "1", "python:torch": "2.7.0"},
)


def test_folders_are_told_in_bytes_whatever_their_names() -> None:
    assert folder_sizes("6\t/\n2\t/a folder\n") == {"/": 6144, "/a folder": 2048}


def test_packages_keep_what_manages_them() -> None:
    assert packages("git 1:2.39\nbroken\n", "apt") == {"apt:git": "1:2.39"}


def test_packages_that_came_went_or_changed_are_told_and_no_others() -> None:
    old, new = {"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}
    assert difference(old, new) == (("a", "1", ""), ("b", "1", "2"), ("d", "", "1"))


@pytest.mark.parametrize(
    ("total", "layer", "lines"), [(999, 899, 2), (1000, 900, 0), (None, 899, 1), (None, None, 0)]
)
def test_the_base_counts_against_no_budget(
    total: int | None, layer: int | None, lines: int
) -> None:
    limits = {"total_size_limit": total, "layer_size_limit": layer}
    defined = [f"smoke.{key}={value}" for key, value in limits.items() if value is not None]
    assert len(over_budget(FOUND, load("cpu", defined))) == lines


def test_a_person_sees_layers_folders_and_what_changed() -> None:
    text = shown(FOUND)
    assert "COPY b" in text
    assert "1 apt, 1 python" in text
    newer = FOUND.model_copy(update={"size": 7000, "packages": {"apt:git": "2"}})
    change = shown_difference(FOUND, newer)
    assert change.startswith("+1 kB against a/b:c")
    assert "python:torch" in change

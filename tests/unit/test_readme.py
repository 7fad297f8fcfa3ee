"""The README's tables say what the code says."""

from __future__ import annotations

from scripts.reference.tables import BLOCKS, README, updated


def test_the_readmes_tables_are_those_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in text for name in BLOCKS)
    assert updated(text) == text, "run: python -m scripts.reference"

"""How results look: tables that hold a terminal's width and still say which row is which."""

from __future__ import annotations

from scripts.host.console import table

HEADER = ("model", "size", "source", "here")
ROWS = [("a-model-with-a-name", "2.13 GB", "https://example.org/a/long/way/to/it", "yes")]


def test_a_table_is_aligned_and_cut_nowhere_when_nobody_looks() -> None:
    assert table(HEADER, ROWS, right=(1,)).splitlines() == [
        "model                   size  source                                here",
        "a-model-with-a-name  2.13 GB  https://example.org/a/long/way/to/it  yes",
    ]


def test_on_a_narrow_terminal_long_cells_are_cut_but_never_a_name_or_a_number() -> None:
    assert table(HEADER, ROWS, right=(1,), width=50).splitlines() == [
        "model                   size  source          here",
        "a-model-with-a-name  2.13 GB  https://examp…  yes",
    ]

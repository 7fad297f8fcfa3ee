"""What was measured of builds and pushes, and the promises it is held to. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.record import Ratio


@dataclass(frozen=True)
class Answer:
    """One thing measured.

    Args:
        question: which one it belongs to.
        what: in words; a contestant's name first, where there are two.
        unit: s, bytes or layers.
        values: of each round.
    """

    question: str
    what: str
    unit: str
    values: tuple[float, ...]

    def as_row(self) -> Mapping[str, Any]:
        """As `results/build.json` keeps it."""
        return {
            "question": self.question,
            "what": self.what,
            "unit": self.unit,
            "median": statistics.median(self.values),
            "values": self.values,
        }


def ratios(answers: Iterable[Answer]) -> list[Ratio]:
    """The promises that these answers can be held to."""
    found = {(each.question, each.what): statistics.median(each.values) for each in answers}

    def has(*keys: tuple[str, str]) -> bool:
        return all(key in found for key in keys)

    judged = []
    for what, top, bottom, limit in _QUOTIENTS:
        if has(top, bottom):
            judged.append(Ratio(what, found[top] / found[bottom], limit))
    for what, more, less, limit in _DIFFERENCES:
        if has(more, less):
            judged.append(Ratio(what, found[more] - found[less], limit))
    for what, key, limit in _PLAIN:
        if has(key):
            judged.append(Ratio(what, found[key], limit))
    return judged


_CLEAN_USUAL = ("clean", "usual")
_QUOTIENTS = (
    ("clean build / usual", ("clean", "ours"), _CLEAN_USUAL, 0.6),
    ("rebuild after a script edit / usual", ("script", "ours"), ("script", "usual"), 0.1),
    ("rebuild after a script edit / usual clean build", ("script", "ours"), _CLEAN_USUAL, 0.1),
    ("rebuild after a pin change / usual", ("pin", "ours"), ("pin", "usual"), 0.5),
    ("bytes over the base, model apart / usual", ("bytes", "ours"), ("bytes", "usual"), 0.7),
    (
        "push after a pin change / that layer alone, bytes",
        ("push", "ours, pin change"),
        ("push", "ours, the changed layer"),
        1.01,
    ),
    (
        "seconds a GB of models, many / few",
        ("models", "the most, a GB over none"),
        ("models", "some, a GB over none"),
        1.2,
    ),
    (
        "pushing four more variants / their own layers, bytes",
        ("variants", "four more"),
        ("variants", "their own layers"),
        1.1,
    ),
)
_DIFFERENCES = (
    ("nothing changed, over plain docker build, s", ("nothing", "ours"), ("nothing", "plain"), 1.5),
    (
        "nothing changed with the most models, over none, s",
        ("models", "the most, again"),
        ("models", "none, again"),
        0.5,
    ),
)
_PLAIN = (
    ("layers rebuilt by a pin change", ("pin", "ours, new layers"), 1),
    ("push after a script edit, bytes", ("push", "ours, script edit"), 1e6),
)

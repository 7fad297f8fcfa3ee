"""Read the axes of A1111's X/Y/Z plot out of `script_args`, and list what their values name.

A1111 checks checkpoints and samplers itself. For other names it draws a cell with something else,
and leaves a cell empty that failed (`scripts/xyz_grid.py`, v1.9.3 and v1.10.1).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import chain
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.models.weights import Use
from scripts.container.serverless.availability.accepted_names import Kind
from scripts.container.serverless.availability.request_references import Match, Reference

TITLES: Final = ("X type", "Y type", "Z type")
"""Controls that choose an axis; requests give its number."""

_TEXT_MODE: Final = "Use text inputs instead of dropdowns"
_NOTHING: Final = "Nothing"
_ONLY_SINCE_1_10: Final = "Beta schedule alpha"
_NO_REFINER: Final = ("", "None", "none")
_NAMED: Final[Mapping[str, Kind]] = {
    "Sampler": "sampler",
    "Hires sampler": "sampler",
    "Checkpoint name": "checkpoint",
    "Refiner checkpoint": "checkpoint",
    "Schedule type": "scheduler",
    "Hires upscaler": "hires upscaler",
    "VAE": "VAE axis",
    "Styles": "style",
}
_CHOICES: Final = {
    "RNG source": ("GPU", "CPU", "NV"),
    "FP8 mode": ("Disable", "Enable for SDXL", "Enable"),
    "Always discard next-to-last sigma": ("True", "False"),
    "SGM noise multiplier": ("True", "False"),
}
_LISTED: Final = (*_NAMED, *_CHOICES)
"""Axes whose values are a list, unless the script is told to read texts."""

_RESTORERS: Final = {"codeformer": "CodeFormer", "gfpgan": "GFPGAN"}
_ON, _OFF = ("true", "yes", "y", "1"), ("false", "no", "n", "0", "none", "off")
_CODE: Final = "input-invalid"


@dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    Args:
        label: what it varies, as A1111 calls it.
        field: of the job, which holds the values.
        values: read as A1111 reads them.
        since_1_10: the WebUI is v1.10 or newer.
    """

    label: str
    field: str
    values: tuple[str, ...]
    since_1_10: bool

    def error(self, text: str) -> UserError:
        """Return an error about the values."""
        return UserError(f"input.{self.field}: {self.label} {text}", code=_CODE)


def read_axes(args: Sequence[Any], controls: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """Return the axes that vary something.

    Args:
        args: arguments of the script, as many as it takes.
        controls: of the script, from `/sdapi/v1/script-info`.

    Raises:
        UserError: A1111 would fail, or draw nothing (code `input-invalid`).
    """
    titles = [control["label"] for control in controls]
    if not {*TITLES, _TEXT_MODE} <= set(titles):
        return []  # another script of that name
    reads_texts = bool(args[titles.index(_TEXT_MODE)])
    axes = (_read_axis(args, controls, titles.index(each), reads_texts) for each in TITLES)
    return [axis for axis in axes if axis]


def _read_axis(
    args: Sequence[Any], controls: Sequence[Mapping[str, Any]], at: int, reads_texts: bool
) -> Axis | None:
    """Return an axis whose number is argument `at`; text and list of values follow it."""
    labels, number = controls[at]["choices"] or [], args[at] or 0
    field = f"script_args[{at}]"
    if number in labels:
        hint = f"the number of {number} is {labels.index(number)}"
        raise UserError(f"input.{field} must be the number of an axis", hint=hint, code=_CODE)
    if not isinstance(number, int) or not -len(labels) <= number < len(labels):
        listed = ", ".join(f"{index} {label}" for index, label in enumerate(labels))
        message = f"input.{field} must be the number of an axis; there are: {listed}"
        raise UserError(message, code=_CODE)
    if (label := labels[number]) == _NOTHING:
        return None
    takes_list = label in _LISTED and not reads_texts
    place = at + 2 if takes_list else at + 1
    axis = Axis(label, f"script_args[{place}]", (), _ONLY_SINCE_1_10 in labels)
    return replace(axis, values=_read_values(axis, args[place], takes_list=takes_list))


def _read_values(axis: Axis, given: object, *, takes_list: bool) -> tuple[str, ...]:
    if takes_list:
        if not isinstance(given, list) or not given:
            raise axis.error('takes its values as a list here, such as ["a", "b"]')
        return tuple(map(str, given))
    if not isinstance(given, str) or not given.strip():
        raise axis.error('takes its values as a text here, such as "a, b"')
    rows = csv.reader(StringIO(given), skipinitialspace=axis.since_1_10)
    return tuple(map(str.strip, chain.from_iterable(rows)))


def refer(axes: Sequence[Axis]) -> Iterator[Reference]:
    """Yield what the values of axes name.

    Raises:
        UserError: A1111 would take a value for another one (code `input-invalid`).
    """
    for axis in axes:
        _check_choices(axis)
        for value in axis.values:
            kind = _NAMED.get(axis.label)
            if axis.label == "Styles":
                yield from (Reference("style", axis.field, name) for name in value.split(","))
            elif axis.label == "VAE":
                match: Match = "exact" if axis.since_1_10 else "part"
                yield Reference("VAE axis", axis.field, value.strip().lower(), match)
            elif kind == "checkpoint":
                if axis.label != "Refiner checkpoint" or value not in _NO_REFINER:
                    yield Reference(kind, axis.field, value, "part")
            elif kind:
                use: Use | None = "upscaler" if kind == "hires upscaler" else None
                yield Reference(kind, axis.field, value, use=use)


def _check_choices(axis: Axis) -> None:
    choices = _CHOICES.get(axis.label, ())
    for value in axis.values:
        known = value.lower() if choices == ("True", "False") else value
        if choices and known not in (*choices, "true", "false"):
            raise axis.error(f"is one of {', '.join(choices)}, not {value!r}")
        if axis.label == "Size" and not _is_size(value):
            raise axis.error(f"is such as 512x768, not {value!r}")


def _is_size(value: str) -> bool:
    width, _, height = value.partition("x")
    try:
        return int(width) > 0 and int(height) > 0
    except ValueError:
        return False


def replace_in_prompts(
    axes: Sequence[Axis], prompt: str, negative: str
) -> Iterator[tuple[str, str]]:
    """Yield the prompts that *Prompt S/R* makes, with the field of the axis.

    Raises:
        UserError: the text to replace stands in neither prompt (code `input-invalid`).
    """
    pairs = {(prompt, negative): ""}
    for axis in axes:
        if axis.label != "Prompt S/R":
            continue
        first = axis.values[0]
        if any(first not in one and first not in other for one, other in pairs):
            raise axis.error(f"finds {first!r} neither in the prompt nor in the negative prompt")
        pairs = {
            (one.replace(first, value), other.replace(first, value)): axis.field
            for one, other in pairs
            for value in axis.values
        }
    yield from ((field, one) for (one, _), field in pairs.items() if field and one != prompt)


def list_styles(axes: Sequence[Axis]) -> list[str]:
    """Return the names of styles that axes add."""
    values = [value for axis in axes if axis.label == "Styles" for value in axis.values]
    return [name for value in values for name in value.split(",")]


def restores_faces(axes: Sequence[Axis], restorer: object) -> bool:
    """Return whether an axis has faces restored.

    Args:
        axes: of the plot.
        restorer: the option `face_restoration_model`, which A1111 restores with whatever the axis
            names (`modules/face_restoration.py`).

    Raises:
        UserError: an axis names another restorer, or none (code `input-invalid`).
    """
    found = False
    for axis in axes:
        for value in axis.values if axis.label == "Face restore" else ():
            named = _RESTORERS.get(value.lower())
            if named and named != restorer:
                hint = f'set override_settings: {{"face_restoration_model": "{named}"}}'
                message = f"input.{axis.field}: the WebUI would restore with {restorer!r} instead"
                raise UserError(message, hint=hint, code=_CODE)
            if not named and value.lower() not in (*_ON, *_OFF):
                raise axis.error(f"is CodeFormer, GFPGAN, true or false, not {value!r}")
            found = found or bool(named) or value.lower() in _ON
    return found


def warn_without_second_pass(axes: Sequence[Axis]) -> list[str]:
    """Return warnings about axes that vary nothing without `enable_hr`."""
    return [
        f"input.{axis.field}: {axis.label} does nothing without enable_hr"
        for axis in axes
        if axis.label.startswith("Hires ")
    ]

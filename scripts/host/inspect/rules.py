"""What an image's structure is held to: one function a check, and one table that names them.

`invoke inspect` and the smoke tests both judge by this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.host.config.schema import Smoke
from scripts.host.console import size
from scripts.host.inspect.image import Structure

SHOWN: Final = 5

# What is wrong, one phrase each; none when the check passes.
Check = Callable[[Structure, Smoke], list[str]]


def nothing_found(code: str, image: Structure, smoke: Smoke) -> list[str]:
    """No layer holds what has this code."""
    del smoke
    found = [one for one in image.found if one.code == code]
    lines = [
        f"{one.path} ({one.what}{_where(one.layer)}{', deleted later' if one.gone else ''})"
        for one in found[:SHOWN]
    ]
    return [*lines, *([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])]


def _where(layer: int) -> str:
    return f", layer {layer}" if layer else ""


def little_wasted(image: Structure, smoke: Smoke) -> list[str]:
    """Layers hide few bytes of the layers below them."""
    limit = smoke.waste_limit
    if limit is None or image.wasted_bytes <= limit:
        return []
    worst = image.wasted[0]
    return [
        f"{size(image.wasted_bytes)} below later layers, allowed are {size(limit)}",
        f"most by {worst.path}: {size(worst.size)} in layer {worst.layer}, "
        f"hidden by layer {worst.hidden_by}",
    ]


def within_budget(image: Structure, smoke: Smoke) -> list[str]:
    """Neither the whole nor any layer is too large; base and models are not counted."""
    total, each = smoke.total_size_limit, smoke.layer_size_limit
    lines = []
    if total is not None and image.own_size > total:
        lines.append(f"{size(image.own_size)} over base and models, allowed are {size(total)}")
    lines += [
        f"{size(layer.size - layer.models)} in layer {number}, allowed are {size(each)}: "
        f"{layer.instruction[:60]}"
        for number, layer in enumerate(image.layers, 1)
        if each is not None and layer.size - layer.models > each
    ]
    return lines


CHECKS: Final[Mapping[str, Check]] = {
    **{
        code: partial(nothing_found, code)
        for code in ("secret-in-image", "leftovers", "world-writable", "setuid-file")
    },
    "wasted-bytes": little_wasted,
    "image-too-large": within_budget,
}


def judged(code: str, image: Structure, smoke: Smoke) -> None:
    """Hold an image to one check.

    Raises:
        UserError: it does not pass; the code is the check's.
    """
    if lines := CHECKS[code](image, smoke):
        raise UserError("; ".join(lines), location=image.image, code=code)


def failed(image: Structure, smoke: Smoke) -> tuple[str, ...]:
    """Codes of the checks that an image does not pass."""
    return tuple(code for code, check in CHECKS.items() if check(image, smoke))

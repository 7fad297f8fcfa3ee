"""Check an image's structure by rules that `invoke inspect` and the smoke tests share."""

from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.host.config.schema import Smoke
from scripts.host.inspect.structure import Structure

SHOWN: Final = 5


def check_structure(image: Structure, smoke: Smoke) -> dict[str, list[str]]:
    """Check every rule; return what breaks it, one phrase each, by the rule's code."""
    return {
        **{
            code: list_violations(code, image)
            for code in ("secret-in-image", "leftovers", "world-writable", "setuid-file")
        },
        "wasted-bytes": check_wasted_bytes(image, smoke),
        "image-too-large": check_sizes(image, smoke),
    }


def require(code: str, image: Structure, smoke: Smoke) -> None:
    """Check one rule.

    Raises:
        UserError: the image breaks it; the code is the rule's.
    """
    if lines := check_structure(image, smoke)[code]:
        raise UserError("; ".join(lines), location=image.image, code=code)


def list_violations(code: str, image: Structure) -> list[str]:
    """List the violations that have a code."""
    found = [violation for violation in image.found if violation.code == code]
    lines = [
        f"{violation.path} ({violation.what}"
        + (f", layer {violation.layer}" if violation.layer else "")
        + (", deleted later)" if violation.gone else ")")
        for violation in found[:SHOWN]
    ]
    return [*lines, *([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])]


def check_wasted_bytes(image: Structure, smoke: Smoke) -> list[str]:
    """Compare the bytes that later layers hide with their limit, and name the worst layer."""
    limit = smoke.waste_limit
    if limit is None or image.wasted_bytes <= limit:
        return []
    number, worst = max(enumerate(image.layers, 1), key=lambda numbered: numbered[1].hidden)
    return [
        f"later layers hide {size(image.wasted_bytes)}, the limit is {size(limit)}",
        f"most of it in layer {number}, {size(worst.hidden)}: {worst.instruction[:60]}",
    ]


def check_sizes(image: Structure, smoke: Smoke) -> list[str]:
    """Compare image and layers with their limits; base and models are not counted."""
    total, each = smoke.total_size_limit, smoke.layer_size_limit
    lines = []
    if total is not None and image.own_size > total:
        lines.append(f"{size(image.own_size)} over base and models, the limit is {size(total)}")
    lines += [
        f"{size(layer.size - layer.models)} in layer {number}, the limit is {size(each)}: "
        f"{layer.instruction[:60]}"
        for number, layer in enumerate(image.layers, 1)
        if each is not None and layer.size - layer.models > each
    ]
    return lines

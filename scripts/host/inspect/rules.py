"""Check an image's structure: one function per check, one table for `invoke inspect` and smoke."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.units import size
from scripts.host.config.schema import Smoke
from scripts.host.inspect.structure import Structure

SHOWN: Final = 5

# Returns what is wrong, one phrase each; none when the check passes.
Check = Callable[[Structure, Smoke], list[str]]


def check_violations(code: str, image: Structure, smoke: Smoke) -> list[str]:
    """List the violations that have a code."""
    del smoke
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


CHECKS: Final[Mapping[str, Check]] = {
    **{
        code: partial(check_violations, code)
        for code in ("secret-in-image", "leftovers", "world-writable", "setuid-file")
    },
    "wasted-bytes": check_wasted_bytes,
    "image-too-large": check_sizes,
}


def require(code: str, image: Structure, smoke: Smoke) -> None:
    """Run one check.

    Raises:
        UserError: it fails; the code is the check's.
    """
    if lines := CHECKS[code](image, smoke):
        raise UserError("; ".join(lines), location=image.image, code=code)


def failed_checks(image: Structure, smoke: Smoke) -> tuple[str, ...]:
    """Run every check and return the codes of those that fail."""
    return tuple(code for code, check in CHECKS.items() if check(image, smoke))

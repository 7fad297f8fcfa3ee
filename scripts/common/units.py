"""Format quantities for people, and read them."""

import re
from typing import Final

_UNITS: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


def size(count: float) -> str:
    """Format a number of bytes in decimal units, as registries, disks and volumes count them."""
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 20G or 20GB, in decimal units.

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)b?", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no size such as 20G")
    return int(float(match[1]) * _UNITS[match[2]])

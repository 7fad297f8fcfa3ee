"""Format quantities for people."""


def size(count: float) -> str:
    """Format a number of bytes in decimal units, as registries, disks and volumes count them."""
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} TB"

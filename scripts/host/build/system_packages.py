"""Decide from which state of the distribution's archive the image's system packages come."""

from datetime import datetime, timedelta, timezone
from typing import Final

SYSTEM_PACKAGES: Final = "system packages"
"""Name of this input where it is not pinned."""
_SNAPSHOT: Final = "{snapshot}"


def apt_arguments(mirror: str | None, snapshot: str | None) -> dict[str, str]:
    """Return the build arguments for the packages of a day, or for today's.

    Args:
        mirror: `mirrors.apt`; with `{snapshot}` it has packages of a day, without only today's.
        snapshot: time that the lock names; None for today's packages.
    """
    mirror, snapshot = mirror or "", snapshot or ""
    if mirror and _SNAPSHOT not in mirror:
        snapshot = ""
    elif not snapshot:
        mirror = ""
    return {"APT_MIRROR": mirror.replace(_SNAPSHOT, snapshot), "APT_SNAPSHOT": snapshot}


def choose_snapshot() -> str:
    """Return the time whose packages the next builds install: yesterday's midnight.

    Archives of snapshots copy Debian and Ubuntu some times a day, so what they answer for a later
    time may still change.
    """
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    return yesterday.strftime("%Y%m%dT000000Z")

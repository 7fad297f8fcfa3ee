"""Add up the layers of a push and show them as one line."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scripts.common.units import size
from scripts.host.console import Throttle, is_live, live, note

QUIET_SECONDS = 10.0  # between two lines where no line can be updated
_DIGEST = re.compile(r": digest: (sha256:[0-9a-f]{64}) size: ")


@dataclass
class UploadedLayer:
    """One layer of a push: the engine's last status, and its bytes (uncompressed)."""

    status: str = ""
    sent: int = 0
    total: int = 0


class UploadProgress:
    """The state of a push.

    Attributes:
        layers: by the engine's short ID.
        digest: of the manifest, known at the end.
    """

    def __init__(self) -> None:
        self.layers: dict[str, UploadedLayer] = {}
        self.digest = ""

    def add(self, event: dict[str, Any]) -> None:
        """Add an event of the engine (https://docs.docker.com/reference/api/engine/, push)."""
        status = event.get("status") or ""
        if "id" not in event:
            # With the containerd image store this line is all that names the digest.
            found = _DIGEST.search(status)
            self.digest = found[1] if found else self.digest
            return
        layer = self.layers.setdefault(event["id"], UploadedLayer())
        detail = event.get("progressDetail") or {}
        layer.status = status
        layer.total = detail.get("total") or layer.total
        layer.sent = detail.get("current") or layer.sent
        if status == "Pushed":
            layer.sent = layer.total = max(layer.total, layer.sent)

    @property
    def has_sent(self) -> bool:
        """Return whether the registry took bytes of this push."""
        # Docker 29 reports bytes ten times a second: of a small layer, perhaps none.
        return any(layer.sent or layer.status == "Pushed" for layer in self.layers.values())

    @property
    def line(self) -> str:
        """One line with the number of layers and bytes sent."""
        layers = self.layers.values()
        in_registry = ("Layer already exists", "Mounted from")
        reused = sum(layer.status.startswith(in_registry) for layer in layers)
        pushed = sum(layer.status == "Pushed" for layer in layers) + reused
        retried = sum(layer.status.startswith("Retrying") for layer in layers)
        sent = sum(min(layer.sent, layer.total) for layer in layers)
        total = sum(layer.total for layer in layers)
        parts = [
            f"{pushed} of {len(layers)} layers pushed",
            f"{reused} already there" if reused else "",
            f"{size(sent)} of {size(total)} sent" if total else "",
            f"{retried} retried" if retried else "",
        ]
        return ", ".join(filter(None, parts))


@contextmanager
def show_uploads(progress: UploadProgress, *, plain: bool = False) -> Iterator[Callable[[], None]]:
    """Show a push until the block ends: live on a terminal, else as a line every ten seconds.

    Yields:
        A function to call after each event.
    """
    if is_live() and not plain:
        with live(lambda: progress.line):
            yield lambda: None
        return
    throttle = Throttle(QUIET_SECONDS)
    yield lambda: note(f"  {progress.line}") if throttle.is_due() else None

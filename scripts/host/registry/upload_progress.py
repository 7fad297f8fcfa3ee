"""Adds up the layers of a push and shows them as one line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scripts.host.console import console, is_live, note, size

QUIET_SECONDS = 10.0  # between two lines where progress cannot move


@dataclass
class Layer:
    """One layer of a push: what the engine last said of it, and its bytes (uncompressed)."""

    state: str = ""
    sent: int = 0
    total: int = 0


_DIGEST = re.compile(r": digest: (sha256:[0-9a-f]{64}) size: ")


class Uploads:
    """The state of a push, fed with the engine's events.

    Attributes:
        layers: by the engine's short ID.
        digest: of the manifest, known at the end.
    """

    def __init__(self) -> None:
        self.layers: dict[str, Layer] = {}
        self.digest = ""

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event in (https://docs.docker.com/reference/api/engine/, image push)."""
        if "id" not in event:
            # With the containerd image store this line is all that names the digest.
            said = _DIGEST.search(event.get("status") or "")
            self.digest = said[1] if said else self.digest
            return
        layer = self.layers.setdefault(event["id"], Layer())
        layer.state = event.get("status") or ""
        detail = event.get("progressDetail") or {}
        layer.total = detail.get("total") or layer.total
        layer.sent = detail.get("current") or layer.sent
        if layer.state == "Pushed":
            layer.sent = layer.total = max(layer.total, layer.sent)

    @property
    def sent(self) -> int:
        """Bytes sent so far, as they are before compression."""
        return sum(min(layer.sent, layer.total) for layer in self.layers.values())

    @property
    def total(self) -> int:
        """Bytes of the layers that have been begun."""
        return sum(layer.total for layer in self.layers.values())

    @property
    def line(self) -> str:
        """Where the push stands."""
        states = [layer.state for layer in self.layers.values()]
        there = sum(1 for state in states if _is_reused(state))
        up = sum(1 for state in states if state == "Pushed") + there
        again = sum(1 for state in states if state.startswith("Retrying"))
        parts = [f"{up} of {len(states)} layers up"]
        parts += [f"{there} already there"] if there else []
        parts += [f"{size(self.sent)} of {size(self.total)} sent"] if self.total else []
        parts += [f"{again} being tried again"] if again else []
        return ", ".join(parts)


def _is_reused(state: str) -> bool:
    return state == "Layer already exists" or state.startswith("Mounted from")


@contextmanager
def showing(uploads: Uploads, *, plain: bool = False) -> Iterator[Callable[[], None]]:
    """Show a push while inside; call what it yields after each event."""
    if is_live() and not plain:
        from rich.live import Live

        with Live(
            get_renderable=lambda: uploads.line,
            console=console(),
            refresh_per_second=5,
            transient=True,
        ):
            yield lambda: None
        return
    last = time.monotonic()

    def now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            note(f"  {uploads.line}")

    yield now_and_then

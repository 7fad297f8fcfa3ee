"""Flags and options, where extensions look for them."""

from __future__ import annotations

import argparse
from typing import Any

cmd_opts: argparse.Namespace = argparse.Namespace()


class Options:
    """Attributes for the WebUI's options."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


opts = Options()

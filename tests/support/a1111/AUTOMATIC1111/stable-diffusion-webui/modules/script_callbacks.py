"""Functions that extensions register (upstream's modules/script_callbacks.py)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from modules import errors

_app_started: list[tuple[str, Callable[[Any, Any], None]]] = []
_before_ui: list[tuple[str, Callable[[], None]]] = []


def _caller() -> str:
    return next(frame.filename for frame in inspect.stack() if frame.filename != __file__)


def on_app_started(callback: Callable[[Any, Any], None], **_: object) -> None:
    """Call a function with None (there is no user interface) and the FastAPI application."""
    _app_started.append((_caller(), callback))


def on_before_ui(callback: Callable[[], None], **_: object) -> None:
    """Call a function before the routes of extensions are added."""
    _before_ui.append((_caller(), callback))


def before_ui_callback() -> None:
    """Call those that were registered; an error is reported."""
    for script, callback in _before_ui:
        try:
            callback()
        except Exception:
            message = f"Error executing callback before_ui for {script}"
            errors.report(message, exc_info=True)


def app_started_callback(app: Any) -> None:
    """Call those that were registered; an error is reported."""
    for script, callback in _app_started:
        try:
            callback(None, app)
        except Exception:
            message = f"Error executing callback app_started_callback for {script}"
            errors.report(message, exc_info=True)

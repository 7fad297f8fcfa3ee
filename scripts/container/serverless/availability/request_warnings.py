"""Warn about what a request holds and A1111 ignores because of the value of another field."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from scripts.container.serverless.availability.prompt_networks import PromptNetwork

Body = Mapping[str, Any]

_UNUSED_IN_API: Final = ("refiner", "sampler", "seed")
"""Scripts of the user interface's own controls; API requests have fields for them
(`setup_for_ui_only` in `modules/scripts.py`)."""


def warn_of_networks(networks: Iterable[tuple[str, PromptNetwork]]) -> list[str]:
    """Return warnings about extra networks of a kind that the WebUI itself does not know."""
    return [
        f"input.{field}: {network.text} does nothing unless an extension knows {network.kind!r}"
        for field, network in networks
        if network.kind not in ("lora", "hypernet")
    ]


def warn_of_no_effect(path: str, body: Body) -> list[str]:
    """Return warnings about fields that A1111 ignores because of the value of another one."""
    warnings = []
    if "/extra-" in path and body.get("upscaler_1") in (None, "None"):
        ignored = [
            field
            for field in ("upscaling_resize", "upscaling_resize_w", "upscaling_resize_h")
            if field in body
        ]
        if body.get("upscaler_2") not in (None, "None"):
            ignored.append("upscaler_2")
        warnings += [f"input.{field} does nothing without upscaler_1" for field in ignored]
    scripts = body.get("alwayson_scripts")
    for key in scripts if isinstance(scripts, dict) else ():
        if key.lower() in _UNUSED_IN_API:
            reason = "does nothing in API requests, which have fields for it"
            warnings.append(f"input.alwayson_scripts.{key} {reason}")
    return warnings

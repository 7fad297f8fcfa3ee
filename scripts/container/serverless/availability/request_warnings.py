"""Warn about what a request holds and this WebUI ignores: fields, options, extra networks.

Found in the sources of A1111 v1.9.3 and v1.10.1. Flags that make it refuse options are no case:
`--freeze-settings` and the like fail the job.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from scripts.container.serverless.availability.prompt_networks import PromptNetwork
from scripts.container.serverless.availability.request_references import Reference

Body = Mapping[str, Any]
Options = Mapping[str, Any]

_AUTOMATIC: Final = ("Automatic", "auto", "automatic")
_PER_MODEL: Final = "sd_vae_overrides_per_model_preferences"
_NOT_BY_API: Final = ("api_enable_requests", "api_forbid_local_requests", "api_useragent")
"""Options that requests cannot set (`restrict_api` in `modules/shared_options.py`)."""

_AT_LOAD: Final = ("cache_fp16_weight", "cross_attention_optimization", "fp8_storage")
"""Options that act when a model is loaded; `process_images` sets options without telling anybody
(`run_callbacks=False`, and `configure_opts_onchange` in `modules/initialize_util.py`)."""

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


def warn_of_overruled_options(
    path: str,
    body: Body,
    references: Iterable[Reference],
    *,
    flags: Options,
    defaults: Options,
) -> list[str]:
    """Return warnings about options without effect.

    Args:
        path: route of the WebUI.
        body: of the request.
        references: what it names.
        flags: of the WebUI, from `/sdapi/v1/cmd-flags`.
        defaults: the WebUI's options.
    """
    settings = body.get("override_settings")
    options: Options = settings if isinstance(settings, dict) else {}
    prefix = "override_settings."
    if path.rpartition("/")[2] == "options":
        prefix, options = "", body
    warnings = list(_warn_of_vaes(references, flags, {**defaults, **options}))
    for name in options:
        if name in _NOT_BY_API:
            warnings.append(f"input.{prefix}{name} does nothing: the API cannot set it")
        if prefix and name in _AT_LOAD:
            effect = "acts when a model is loaded, so it does nothing unless this job loads one"
            warnings.append(f"input.{prefix}{name} {effect}")
    return warnings


def _warn_of_vaes(
    references: Iterable[Reference], flags: Options, options: Options
) -> Iterator[str]:
    """Yield warnings about VAEs that the WebUI may not take (`resolve_vae` in `sd_vae.py`)."""
    fixed = PurePosixPath(str(flags.get("vae_path") or "")).name
    for reference in references:
        # Before v1.10, where parts of a name do, the X/Y/Z plot loads a VAE by itself.
        is_option = reference.kind == "VAE" or (reference.kind, reference.match) == (
            "VAE axis",
            "exact",
        )
        if not is_option or reference.name in (*_AUTOMATIC, fixed, fixed.lower()):
            continue
        field = f"input.{reference.field}"
        if fixed:
            yield f"{field} does nothing: the worker's flag --vae-path chooses {fixed}"
        elif options.get(_PER_MODEL) is False:
            reason = "a VAE beside the checkpoint or in its metadata comes first"
            yield f"{field} may do nothing: {reason}, because {_PER_MODEL} is off"

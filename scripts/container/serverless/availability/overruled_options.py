"""Warn about options of a job that have no effect in this WebUI.

Found in the sources of A1111 v1.9.3 and v1.10.1. Flags that make it refuse options are no case:
`--freeze-settings` and the like fail the job.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from scripts.container.serverless.availability.request_references import Reference

Options = Mapping[str, Any]

_AUTOMATIC: Final = ("Automatic", "auto", "automatic")
_PER_MODEL: Final = "sd_vae_overrides_per_model_preferences"
_NOT_BY_API: Final = ("api_enable_requests", "api_forbid_local_requests", "api_useragent")
"""Options that requests cannot set (`restrict_api` in `modules/shared_options.py`)."""

_AT_LOAD: Final = ("cache_fp16_weight", "cross_attention_optimization", "fp8_storage")
"""Options that act when a model is loaded; `process_images` sets options without telling anybody
(`run_callbacks=False`, and `configure_opts_onchange` in `modules/initialize_util.py`)."""


def list_set_options(path: str, body: Mapping[str, Any]) -> tuple[str, Options]:
    """Return the options that a request sets, with the prefix of their fields."""
    if path.rpartition("/")[2] == "options":
        return "", body
    settings = body.get("override_settings")
    return "override_settings.", settings if isinstance(settings, dict) else {}


def warn_of_overruled_options(
    path: str,
    body: Mapping[str, Any],
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
    prefix, options = list_set_options(path, body)
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

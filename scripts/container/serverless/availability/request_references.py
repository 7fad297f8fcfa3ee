"""List what a request names: each checkpoint, sampler, upscaler, network and so on, with its field.

Only fields that A1111 looks at count: `hr_upscaler` without `enable_hr` names nothing. Which values
name nothing follows its source, v1.9.3 and v1.10.1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from scripts.common.models.weights import Use
from scripts.container.serverless.availability.accepted_names import Kind
from scripts.container.serverless.availability.prompt_networks import PromptNetwork

Body = Mapping[str, Any]
Match = Literal["exact", "part", "any case"]

_NO_CHECKPOINT: Final = (None, "", "None", "none")  # processing.py:880
_NO_OPTION: Final = (None, "", "None")
_NO_DETAIL: Final = (
    *_NO_OPTION,
    *("Use same checkpoint", "Use same VAE", "Use same sampler", "Use same scheduler"),
    "Passthrough",
)
"""Values by which a unit of ADetailer names nothing."""


@dataclass(frozen=True)
class Reference:
    """Something that a request names.

    Args:
        kind: what it is.
        field: field that names it, without `input.`.
        name: its name.
        match: `exact`; `part` where the WebUI takes a part of a name; `any case` where it takes
            names and aliases in any case.
        use: what its weights are for; None where none are fetched at first use.
        needs_list: it is missing where the WebUI has no list of its kind, which an extension adds.
    """

    kind: Kind
    field: str
    name: str
    match: Match = "exact"
    use: Use | None = None
    needs_list: bool = False


def list_references(path: str, body: Body) -> list[Reference]:
    """Return what a request to a route of the WebUI names, networks in prompts apart."""
    route = path.rstrip("/").rpartition("/")[2]
    if route in ("txt2img", "img2img"):
        return [
            *_sampling(body),
            *_refiner(body),
            *(_hires(body) if route == "txt2img" and body.get("enable_hr") else ()),
            *_options(_settings(body), "override_settings."),
            *_styles(body),
            *_controlnet(body),
            *_adetailer(body),
        ]
    if route in ("extra-single-image", "extra-batch-images"):
        return list(_extras(body))
    if route == "options":
        return list(_options(body))
    if route == "interrogate":
        model = str(body.get("model", "clip"))
        return [Reference("interrogator", "model", model, use="interrogator")]
    return []


def list_prompts(path: str, body: Body) -> dict[str, str]:
    """Return the prompts whose extra networks the WebUI activates, by field."""
    if path.rpartition("/")[2] not in ("txt2img", "img2img"):
        return {}
    fields = ["prompt", *(["hr_prompt"] if body.get("enable_hr") else [])]
    own = {field: str(body[field]) for field in fields if body.get(field)}
    return own | {
        f"{field}.ad_prompt": str(unit["ad_prompt"])
        for field, unit in _adetailer_units(body)
        if unit.get("ad_prompt")
    }


def refer_to_network(field: str, network: PromptNetwork) -> Reference | None:
    """Return what an extra network of a prompt names; None for one that only extensions know."""
    if network.kind == "lora":
        return Reference("LoRA", field, network.name)
    return Reference("hypernetwork", field, network.name) if network.kind == "hypernet" else None


def restores_faces(body: Body) -> bool:
    """Return whether a request of txt2img or img2img has faces restored (processing.py:873)."""
    asked = body.get("restore_faces")
    return bool(_settings(body).get("face_restoration") if asked is None else asked)


def refer_to_restorer(body: Body, default: object) -> Reference | None:
    """Return the face restorer of a request; None where any will do (face_restoration.py:13).

    Args:
        body: of the request.
        default: the WebUI's option `face_restoration_model`.
    """
    settings, option = _settings(body), "face_restoration_model"
    name = settings.get(option, default)
    if name is None:
        return None
    field = f"override_settings.{option}" if option in settings else "restore_faces"
    return Reference("face restorer", field, str(name), use="face-restorer")


def _sampling(body: Body) -> Iterator[Reference]:
    field = "sampler_name" if body.get("sampler_name") else "sampler_index"  # api.py:443
    if body.get(field):
        yield Reference("sampler", field, str(body[field]))
    if body.get("scheduler"):
        yield Reference("scheduler", "scheduler", str(body["scheduler"]))


def _refiner(body: Body) -> Iterator[Reference]:
    if (name := body.get("refiner_checkpoint")) not in _NO_CHECKPOINT:
        yield Reference("checkpoint", "refiner_checkpoint", str(name), "part")


def _hires(body: Body) -> Iterator[Reference]:
    """Yield what the second pass names (processing.py:1242-1277, 1368)."""
    if (name := body.get("hr_checkpoint_name")) and name != "Use same checkpoint":
        yield Reference("checkpoint", "hr_checkpoint_name", str(name), "part")
    if name := body.get("hr_sampler_name"):
        yield Reference("sampler", "hr_sampler_name", str(name))
    if name := body.get("hr_scheduler"):
        yield Reference("scheduler", "hr_scheduler", str(name))
    if (name := body.get("hr_upscaler")) is not None:
        yield Reference("hires upscaler", "hr_upscaler", str(name), use="upscaler")


def _options(settings: Body, prefix: str = "") -> Iterator[Reference]:
    """Yield what options name that the WebUI would replace or ignore."""
    if name := settings.get("sd_model_checkpoint"):
        yield Reference("checkpoint", f"{prefix}sd_model_checkpoint", str(name))
    if "sd_vae" in settings:
        yield Reference("VAE", f"{prefix}sd_vae", str(settings["sd_vae"]))
    named: tuple[tuple[str, Kind, Use | None], ...] = (
        ("upscaler_for_img2img", "upscaler", "upscaler"),
        ("sd_lora", "LoRA file", None),
        ("sd_hypernetwork", "hypernetwork", None),
    )
    for option, kind, use in named:
        if (name := settings.get(option)) not in _NO_OPTION:
            yield Reference(kind, f"{prefix}{option}", str(name), use=use)


def _styles(body: Body) -> Iterator[Reference]:
    styles = body.get("styles")
    for number, name in enumerate(styles if isinstance(styles, list) else ()):
        yield Reference("style", f"styles[{number}]", str(name))


def _extras(body: Body) -> Iterator[Reference]:
    """Yield what postprocessing names (scripts/postprocessing_upscale.py:132-150)."""
    first, second = body.get("upscaler_1"), body.get("upscaler_2")
    if first not in (None, "None"):
        yield Reference("upscaler", "upscaler_1", str(first), use="upscaler")
        if second not in (None, "None"):
            use: Use | None = "upscaler" if body.get("extras_upscaler_2_visibility") else None
            yield Reference("upscaler", "upscaler_2", str(second), use=use)
    for field, name in (("gfpgan_visibility", "GFPGAN"), ("codeformer_visibility", "CodeFormer")):
        if body.get(field):
            yield Reference("face restorer", field, name, use="face-restorer")


def _controlnet(body: Body) -> Iterator[Reference]:
    """Yield the modules and models of ControlNet's units that are enabled."""
    for field, _, unit in _units(body, "controlnet"):
        if unit.get("enabled", True):
            if (name := unit.get("module")) is not None:
                yield Reference("ControlNet module", f"{field}.module", str(name))
            if (name := unit.get("model")) not in _NO_OPTION:
                yield Reference("ControlNet model", f"{field}.model", str(name), "part")


def _adetailer(body: Body) -> Iterator[Reference]:
    """Yield what ADetailer's units name (`get_args`, `get_override_settings` in !adetailer.py)."""
    for field, unit in _adetailer_units(body):
        named: tuple[tuple[str, Kind, object], ...] = (
            ("ad_model", "ADetailer model", True),
            ("ad_checkpoint", "checkpoint", unit.get("ad_use_checkpoint")),
            ("ad_vae", "VAE", unit.get("ad_use_vae")),
            ("ad_sampler", "sampler", unit.get("ad_use_sampler")),
            ("ad_scheduler", "scheduler", unit.get("ad_use_sampler")),
            ("ad_controlnet_module", "ControlNet module", True),
            ("ad_controlnet_model", "ControlNet model", True),
        )
        for key, kind, is_used in named:
            name = unit.get(key)
            if is_used and name not in _NO_DETAIL:
                field_name, text = f"{field}.{key}", str(name)
                if kind == "ControlNet model":
                    yield Reference(kind, field_name, text, "part", needs_list=True)
                else:
                    yield Reference(kind, field_name, text)


def _adetailer_units(body: Body) -> Iterator[tuple[str, Body]]:
    """Yield the units with which ADetailer works, by field."""
    for field, arguments, unit in _units(body, "adetailer"):
        is_on = arguments[0] is not False and unit.get("ad_tab_enable") is not False
        if is_on and unit.get("ad_model") not in (None, "None"):
            yield field, unit


def _units(body: Body, script: str) -> Iterator[tuple[str, list[Any], Body]]:
    """Yield the objects among the arguments of a script: field, all arguments, and the object."""
    scripts = body.get("alwayson_scripts")
    for key, content in scripts.items() if isinstance(scripts, dict) else ():
        arguments = content.get("args") if isinstance(content, dict) else None
        if key.lower() == script and isinstance(arguments, list):
            for number, unit in enumerate(arguments):
                if isinstance(unit, dict):
                    yield f"alwayson_scripts.{key}.args[{number}]", arguments, unit


def _settings(body: Body) -> Body:
    settings = body.get("override_settings")
    return settings if isinstance(settings, dict) else {}

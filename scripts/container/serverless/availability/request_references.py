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
    """

    kind: Kind
    field: str
    name: str
    match: Match = "exact"
    use: Use | None = None


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
        ]
    if route in ("extra-single-image", "extra-batch-images"):
        return list(_extras(body))
    if route == "options":
        return list(_options(body))
    if route == "interrogate":
        model = _text(body.get("model", "clip"))
        return [Reference("interrogator", "model", model, use="interrogator")]
    return []


def list_prompts(path: str, body: Body) -> dict[str, str]:
    """Return the prompts whose extra networks the WebUI activates, by field."""
    if path.rpartition("/")[2] not in ("txt2img", "img2img"):
        return {}
    fields = ["prompt", *(["hr_prompt"] if body.get("enable_hr") else [])]
    return {field: _text(body[field]) for field in fields if body.get(field)}


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
    return Reference("face restorer", field, _text(name), use="face-restorer")


def _sampling(body: Body) -> Iterator[Reference]:
    field = "sampler_name" if body.get("sampler_name") else "sampler_index"  # api.py:443
    if body.get(field):
        yield Reference("sampler", field, _text(body[field]))
    if body.get("scheduler"):
        yield Reference("scheduler", "scheduler", _text(body["scheduler"]))


def _refiner(body: Body) -> Iterator[Reference]:
    if (name := body.get("refiner_checkpoint")) not in _NO_CHECKPOINT:
        yield Reference("checkpoint", "refiner_checkpoint", _text(name), "part")


def _hires(body: Body) -> Iterator[Reference]:
    """Yield what the second pass names (processing.py:1242-1277, 1368)."""
    if (name := body.get("hr_checkpoint_name")) and name != "Use same checkpoint":
        yield Reference("checkpoint", "hr_checkpoint_name", _text(name), "part")
    if name := body.get("hr_sampler_name"):
        yield Reference("sampler", "hr_sampler_name", _text(name))
    if name := body.get("hr_scheduler"):
        yield Reference("scheduler", "hr_scheduler", _text(name))
    if (name := body.get("hr_upscaler")) is not None:
        yield Reference("hires upscaler", "hr_upscaler", _text(name), use="upscaler")


def _options(settings: Body, prefix: str = "") -> Iterator[Reference]:
    """Yield what options name that the WebUI would replace or ignore."""
    if name := settings.get("sd_model_checkpoint"):
        yield Reference("checkpoint", f"{prefix}sd_model_checkpoint", _text(name))
    if "sd_vae" in settings:
        yield Reference("VAE", f"{prefix}sd_vae", _text(settings["sd_vae"]))
    named: tuple[tuple[str, Kind, Use | None], ...] = (
        ("upscaler_for_img2img", "upscaler", "upscaler"),
        ("sd_lora", "LoRA file", None),
        ("sd_hypernetwork", "hypernetwork", None),
    )
    for option, kind, use in named:
        if (name := settings.get(option)) not in _NO_OPTION:
            yield Reference(kind, f"{prefix}{option}", _text(name), use=use)


def _styles(body: Body) -> Iterator[Reference]:
    styles = body.get("styles")
    for number, name in enumerate(styles if isinstance(styles, list) else ()):
        yield Reference("style", f"styles[{number}]", _text(name))


def _extras(body: Body) -> Iterator[Reference]:
    """Yield what postprocessing names (scripts/postprocessing_upscale.py:132-150)."""
    first, second = body.get("upscaler_1"), body.get("upscaler_2")
    if first not in (None, "None"):
        yield Reference("upscaler", "upscaler_1", _text(first), use="upscaler")
        if second not in (None, "None"):
            use: Use | None = "upscaler" if body.get("extras_upscaler_2_visibility") else None
            yield Reference("upscaler", "upscaler_2", _text(second), use=use)
    for field, name in (("gfpgan_visibility", "GFPGAN"), ("codeformer_visibility", "CodeFormer")):
        if body.get(field):
            yield Reference("face restorer", field, name, use="face-restorer")


def _controlnet(body: Body) -> Iterator[Reference]:
    """Yield the modules and models of ControlNet's units that are enabled."""
    scripts = body.get("alwayson_scripts")
    for key, script in scripts.items() if isinstance(scripts, dict) else ():
        args = script.get("args") if isinstance(script, dict) else None
        if key.lower() != "controlnet" or not isinstance(args, list):
            continue
        for number, unit in enumerate(args):
            if isinstance(unit, dict) and unit.get("enabled", True):
                field = f"alwayson_scripts.{key}.args[{number}]"
                if (name := unit.get("module")) is not None:
                    yield Reference("ControlNet module", f"{field}.module", _text(name))
                if (name := unit.get("model")) not in (None, "None"):
                    yield Reference("ControlNet model", f"{field}.model", _text(name), "part")


def _settings(body: Body) -> Body:
    settings = body.get("override_settings")
    return settings if isinstance(settings, dict) else {}


def _text(value: object) -> str:
    """Return a name as text; the checks of fields come before, so this is for messages."""
    return value if isinstance(value, str) else str(value)

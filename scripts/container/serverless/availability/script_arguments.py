"""List what the arguments of A1111's own scripts name (`scripts/` of v1.9.3 and v1.10.1)."""

import re
import shlex
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.container.serverless.availability import plot_axes
from scripts.container.serverless.availability.accepted_names import Names
from scripts.container.serverless.availability.request_references import Reference

Body = Mapping[str, Any]

_INTERROGATORS: Final = {"CLIP": "clip", "DeepBooru": "deepdanbooru"}
_OWN_SCRIPTS: Final = (
    *("custom code", "img2img alternative test", "loopback", "outpainting mk2"),
    *("poor man's outpainting", "prompt matrix", "prompts from file or textbox", "sd upscale"),
    "x/y/z plot",
)
_BY_NUMBER: Final = (*plot_axes.TITLES, "Masked content")
"""Labels of A1111's own controls whose value is the number of a choice (`type="index"`)."""
_LINE_OPTIONS: Final = (
    *("sd_model", "outpath_samples", "outpath_grids", "prompt_for_display", "prompt"),
    *("negative_prompt", "styles", "seed", "subseed_strength", "subseed", "seed_resize_from_h"),
    *("seed_resize_from_w", "sampler_index", "sampler_name", "batch_size", "n_iter", "steps"),
    *("cfg_scale", "width", "height", "restore_faces", "tiling", "do_not_save_samples"),
    "do_not_save_grid",
)
"""Options of a line of *Prompts from file* (`prompt_tags`)."""


@dataclass
class ScriptNames:
    """Hold what the arguments of a request's scripts name.

    Args:
        references: names to look for.
        prompts: further prompts that are drawn, with the field that makes them.
        styles: names of styles whose prompts are drawn.
        restores_faces: faces are restored in some image.
        warnings: about arguments that have no effect.
    """

    references: list[Reference] = field(default_factory=list)
    prompts: list[tuple[str, str]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    restores_faces: bool = False
    warnings: list[str] = field(default_factory=list)


def find_script(rows: Sequence[Body], body: Body, *, is_img2img: bool) -> Body | None:
    """Return the row of `/sdapi/v1/script-info` for `script_name`; None where there is none."""
    name = str(body.get("script_name") or "").lower()
    of_tab = {"name": name, "is_img2img": is_img2img, "is_alwayson": False}
    return next((row for row in rows if of_tab.items() <= row.items()), None)


def complete_arguments(body: MutableMapping[str, Any], script: Body) -> list[str]:
    """Give `script_args` the length that a script takes; return warnings about what was changed.

    A1111 puts them in the place of its own into one list for all scripts, so a shorter or longer
    one gives this script and later ones the arguments of others (`init_script_args` in
    `modules/api/api.py`).

    Raises:
        UserError: a choice of another script is missing: whether it is given by name or by number
            is nowhere to be read (code `input-invalid`).
    """
    args, controls = list(body.get("script_args") or ()), script["args"]
    if len(args) == len(controls):
        return []
    missing = controls[len(args) :]
    choice = next((each["label"] for each in missing if each["choices"]), "")
    if choice and script["name"] not in _OWN_SCRIPTS:
        given = f"{len(args)} of the {len(controls)} of {script['name']!r}"
        message = f"input.script_args: {given}; {choice!r} has no default that is known here"
        raise UserError(message, hint=f"give all {len(controls)}", code="input-invalid")
    body["script_args"] = [*args[: len(controls)], *map(_default, missing)]
    names = ", ".join(f"{control['label']} ({control['value']!r})" for control in missing)
    changed = f"the default applies: {names}" if missing else "those at the end were left out"
    return [f"script_args: {len(args)} of the {len(controls)} of {script['name']!r}; {changed}"]


def _default(control: Body) -> Any:  # noqa: ANN401 - any JSON
    """Return the default of a control of A1111's own, or of one without choices."""
    by_number = control["choices"] and control["label"] in _BY_NUMBER
    return control["choices"].index(control["value"]) if by_number else control["value"]


def list_script_names(body: Body, script: Body, *, restorer: object) -> ScriptNames:
    """Return what the arguments of `script_name` name.

    Args:
        body: of the request, with all arguments.
        script: row of `/sdapi/v1/script-info`.
        restorer: the option `face_restoration_model` of this request.

    Raises:
        UserError: an argument would be taken for another one (code `input-invalid`).
    """
    args = body["script_args"]
    if script["name"] == "x/y/z plot":
        return _plot(body, plot_axes.read_axes(args, script["args"]), restorer)
    if script["name"] == "sd upscale":
        return ScriptNames([_upscaler(args[2], script["args"][2]["choices"] or [])])
    if script["name"] == "loopback" and args[3] in _INTERROGATORS:
        name = _INTERROGATORS[args[3]]
        reference = Reference("interrogator", "script_args[3]", name, use="interrogator")
        return ScriptNames([reference])
    if script["name"] == "prompts from file or textbox":
        return _lines(str(args[3] or "").splitlines())
    return ScriptNames()


def explain_unknown_script(
    rows: Sequence[Body], body: Body, text: str, *, is_img2img: bool
) -> UserError | None:
    """Return an error for the WebUI's own about an unknown script; None for another error.

    The WebUI itself refuses such a request before it draws, and takes scripts without controls,
    which it does not list.
    """
    found = re.search(r"(?i)script '?(.+?)'? not found", text)
    if not found:
        return None
    field = "script_name" if body.get("script_name") == found[1] else "alwayson_scripts"
    of_tab = {"is_alwayson": field == "alwayson_scripts", "is_img2img": is_img2img}
    names = tuple(row["name"] for row in rows if of_tab.items() <= row.items())
    shown = Names(frozenset(names), names)
    message = shown.describe_missing(f"input.{field}", "script", found[1])
    hint = "name one that is there; config.yaml or the volume can add the extension of another"
    return UserError(message, hint=hint, code="name-unknown")


def _plot(body: Body, axes: list[plot_axes.Axis], restorer: object) -> ScriptNames:
    warnings = []
    if not body.get("enable_hr"):
        warnings = plot_axes.warn_without_second_pass(axes)
    used = [axis for axis in axes if body.get("enable_hr") or not axis.label.startswith("Hires ")]
    prompts = (str(body.get("prompt") or ""), str(body.get("negative_prompt") or ""))
    return ScriptNames(
        references=list(plot_axes.refer(used)),
        prompts=list(plot_axes.replace_in_prompts(axes, *prompts)),
        styles=plot_axes.list_styles(axes),
        restores_faces=plot_axes.restores_faces(axes, restorer),
        warnings=warnings,
    )


def _upscaler(given: object, names: Sequence[str]) -> Reference:
    """Return the upscaler of *SD upscale*, given by its number or in any case."""
    name = str(given)
    if isinstance(given, int) and -len(names) <= given < len(names):
        name = names[given]
    name = next((each for each in names if each.lower() == name.lower()), name)
    return Reference("upscaler", "script_args[2]", name, use=None if name == "None" else "upscaler")


def _lines(lines: Sequence[str]) -> ScriptNames:
    """Return what the lines of *Prompts from file* name, read as A1111 reads them.

    Raises:
        UserError: a line is no command line, which A1111 would draw as a prompt, or says where
            files are written (code `input-invalid`).
    """
    found = ScriptNames()
    for number, line in enumerate(line.strip() for line in lines):
        place = f"script_args[3], line {number + 1}"
        options = _read_options(line, place) if "--" in line else {"prompt": line}
        for name, value in options.items():
            if name.startswith("outpath_"):
                hint = "it chooses where the worker writes files"
                message = f"input.{place}: jobs may not set {name}"
                raise UserError(message, hint=hint, code="input-invalid")
            if name == "prompt":
                found.prompts.append((place, value))
            elif name == "sd_model":
                found.references.append(Reference("checkpoint", place, value, "part"))
            elif name == "sampler_name":
                found.references.append(Reference("sampler", place, value, "any case"))
    return found


def _read_options(line: str, place: str) -> dict[str, str]:
    """Return the options of a line by name; a prompt may have several words (`cmdargs`)."""
    options: dict[str, str] = {}
    name = ""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"input.{place}: {error}", code="input-invalid") from None
    for word in words:
        if word.startswith("--") and (not name or name in options):
            name = word[2:]
        elif name and (name not in options or name in ("prompt", "negative_prompt")):
            options[name] = f"{options[name]} {word}" if name in options else word
        else:
            name = word
            break
    unknown = [
        each for each in (name, *options) if each not in _LINE_OPTIONS or name not in options
    ]
    if unknown:
        hint = 'a line is such as --prompt "a lighthouse" --steps 20, or a prompt without any --'
        message = f"input.{place}: {unknown[0]!r} is no option with a value"
        raise UserError(message, hint=hint, code="input-invalid")
    return options

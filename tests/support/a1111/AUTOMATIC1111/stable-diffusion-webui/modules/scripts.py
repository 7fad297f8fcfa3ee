"""Scripts of extensions: loaded, shown, given arguments and run (upstream's modules/scripts.py).

Without the scripts of upstream itself, and without the callbacks that need latents or images.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from modules import errors, extensions, paths, script_loading

AlwaysVisible = object()

_current_basedir = str(paths.HERE)


def basedir() -> str:
    """The folder of the extension whose script is being loaded."""
    return _current_basedir


class Script:
    """Define what a script may; see upstream's class of the same name."""

    name: str | None = None
    filename: str = ""
    args_from = 0
    args_to = 0
    alwayson = False
    is_txt2img = False
    is_img2img = False

    def title(self) -> str:
        raise NotImplementedError

    def ui(self, is_img2img: bool) -> Any:  # noqa: ARG002 - upstream's signature
        return None

    def show(self, is_img2img: bool) -> Any:  # noqa: ARG002 - upstream's signature
        return True

    def before_process(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...


@dataclass
class Processing:
    """The job that scripts may change."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    width: int
    height: int
    extra_generation_params: dict[str, Any] = field(default_factory=dict)


def load_scripts() -> list[type[Script]]:
    """Load the scripts of all active extensions; one that fails is reported, others go on."""
    global _current_basedir
    found: list[type[Script]] = []
    syspath = sys.path
    for extension in extensions.active():
        for path in extension.list_scripts():
            try:
                sys.path = [extension.path, *sys.path]
                _current_basedir = extension.path
                for kind in vars(script_loading.load_module(path)).values():
                    if inspect.isclass(kind) and issubclass(kind, Script):
                        kind.filename = path
                        found.append(kind)
            except Exception:
                errors.report(f"Error loading script: {Path(path).name}", exc_info=True)
            finally:
                sys.path = syspath
                _current_basedir = str(paths.HERE)
    return found


def _wrap_call(function: Callable[..., Any], filename: str, *args: Any) -> Any:
    try:
        return function(*args)
    except Exception:
        errors.report(f"Error calling: {filename}/{function.__name__}", exc_info=True)
        return None


class ScriptRunner:
    """Scripts of one kind of job, with what they say about themselves."""

    def __init__(self, kinds: list[type[Script]], is_img2img: bool) -> None:
        """Make the scripts, and ask each whether it is shown: an error there ends the start."""
        self.is_img2img = is_img2img
        self.scripts: list[Script] = []
        self.infos: list[dict[str, Any]] = []
        self.defaults: list[Any] = []
        for kind in kinds:
            try:
                script = kind()
            except Exception:
                message = f"Error # failed to initialize Script {kind.__module__}: "
                errors.report(message, exc_info=True)
                continue
            script.is_img2img, script.is_txt2img = is_img2img, not is_img2img
            if visibility := script.show(is_img2img):
                script.alwayson = visibility is AlwaysVisible
                self.scripts.append(script)

    def create_ui(self) -> None:
        """Ask each script for its controls, and for their defaults again.

        Raises:
            Exception: of a script's `ui()`: the first call is guarded, those for the defaults are
                not (`Api.init_default_script_args`).
        """
        if not self.scripts:
            return
        import gradio

        count = 1
        with gradio.Blocks():
            for script in self.scripts:
                script.args_from = script.args_to = count
                controls = _wrap_call(script.ui, script.filename, self.is_img2img)
                if controls is None:
                    continue
                title = _wrap_call(script.title, script.filename)
                script.name = str(title or script.filename).lower()
                count = script.args_to = count + len(controls)
                self.infos.append(_info(script, controls))
        self.defaults = [None] * count
        with gradio.Blocks():
            for script in self.scripts:
                if script.ui(self.is_img2img):
                    values = [control.value for control in script.ui(self.is_img2img)]
                    self.defaults[script.args_from : script.args_to] = values

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """The arguments of all scripts: their defaults, and those that a job gives.

        Raises:
            HTTPException: there is no such script (422).
        """
        arguments = self.defaults.copy()
        for name, value in given.items():
            script = self.find(name)
            if not script.alwayson:
                detail = "Cannot have a selectable script in the always on scripts params"
                raise HTTPException(422, detail)
            if "args" in value:
                count = min(script.args_to - script.args_from, len(value["args"]))
                for index in range(count):
                    arguments[script.args_from + index] = value["args"][index]
        return arguments

    def find(self, name: str) -> Script:
        """The script of a title, without case (`script_name_to_index` in modules/api/api.py)."""
        for script in self.scripts:
            if script.title().lower() == name.lower():
                return script
        raise HTTPException(422, f"Script '{name}' not found")

    def run(self, p: Processing, arguments: list[Any]) -> None:
        """Let the scripts change a job; an error is reported, and the job goes on."""
        for method in ("before_process", "process"):
            for script in self.scripts:
                if not script.alwayson:
                    continue
                own = arguments[script.args_from : script.args_to]
                try:
                    getattr(script, method)(p, *own)
                except Exception:
                    errors.report(f"Error running {method}: {script.filename}", exc_info=True)


def _info(script: Script, controls: list[Any]) -> dict[str, Any]:
    """Return the row of a script in /sdapi/v1/script-info."""
    rows = []
    for control in controls:
        row = {name: getattr(control, name, None) for name in ("value", "minimum", "maximum")}
        choices = getattr(control, "choices", None)
        if choices is not None:
            choices = [each[0] if isinstance(each, tuple) else each for each in choices]
        row |= {"step": getattr(control, "step", None), "choices": choices}
        rows.append({"label": control.label or "", **row})
    kinds = {"is_alwayson": script.alwayson, "is_img2img": script.is_img2img}
    return {"name": script.name, **kinds, "args": rows}

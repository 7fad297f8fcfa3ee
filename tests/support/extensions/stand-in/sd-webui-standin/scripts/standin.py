"""A script that adds a phrase to the prompt, and routes that list phrases and models."""

import hashlib
from pathlib import Path

import gradio as gr
import iniconfig
import roman
import webcolors

from modules import script_callbacks, scripts, shared
from modules.paths import models_path

PHRASES = iniconfig.IniConfig(str(Path(scripts.basedir()) / "phrases" / "phrases.ini"))["phrases"]
MODELS = Path(shared.cmd_opts.standin_models_path or Path(models_path) / "StandIn")
MODELS.mkdir(parents=True, exist_ok=True)


def list_models():
    return sorted(path.stem for path in MODELS.glob("*.safetensors"))


class StandIn(scripts.Script):
    def title(self):
        return "Stand-in phrase"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        with gr.Accordion("Stand-in phrase", open=False):
            enabled = gr.Checkbox(label="Enabled", value=False)
            phrase = gr.Dropdown(label="Phrase", choices=sorted(PHRASES), value="sea")
            times = gr.Slider(label="Times", minimum=1, maximum=9, step=1, value=1)
            model = gr.Dropdown(label="Model", choices=["None", *list_models()], value="None")
        return [enabled, phrase, times, model]

    def before_process(self, p, enabled, phrase, times, model):
        if not enabled:
            return
        words = [f"{PHRASES[phrase]} {roman.toRoman(int(times))}", webcolors.name_to_hex("navy")]
        if model != "None":
            content = (MODELS / f"{model}.safetensors").read_bytes()
            words.append(hashlib.sha256(content).hexdigest()[:10])
        p.prompt = ", ".join((p.prompt, *words))
        p.extra_generation_params["Stand-in phrase"] = phrase


def add_routes(_demo, app):
    @app.get("/standin/phrases")
    def phrases():
        return {"phrases": sorted(PHRASES)}

    @app.get("/standin/models")
    def models():
        return {"models": list_models()}

    @app.post("/standin/install_package")
    def install_package(package: dict):
        return {"asked": package}


script_callbacks.on_app_started(add_routes)

"""The routes under /sdapi/v1 that a worker uses, and errors in the shape upstream gives them.

Without a user interface there is neither `/` nor `/internal/ping`.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Any

import psutil
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from pydantic import BaseModel, Field, create_model

from modules import extensions, faults, used_models
from modules.light_engine import png
from modules.pictures import SAMPLERS, SCHEDULERS, answer, decode
from modules.schema import Extras, Img2Img, Interrogate, Txt2Img
from modules.state import DEFAULTS, WebUI


def make_app(webui: WebUI) -> FastAPI:
    """The API in front of one WebUI; `--api-auth` does not guard the routes of extensions."""
    for runner in webui.runners.values():
        runner.create_ui()
    guards = [Depends(_guard(webui.flags.api_auth))] if webui.flags.api_auth else []
    app, router = FastAPI(), APIRouter(dependencies=guards)
    for kind in (Exception, HTTPException):
        app.add_exception_handler(kind, _error)
    _add_drawing(router, webui)
    _add_state(router, webui)
    _add_models(router, webui)
    _add_extensions(router, webui)
    app.include_router(router)
    return app


def _guard(credentials: str) -> Callable[[HTTPBasicCredentials], None]:
    """Asks for one of the `user:password` pairs, separated by commas."""
    pairs = dict(pair.split(":", 1) for pair in credentials.split(","))

    def check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - FastAPI's way
        expected = pairs.get(given.username)
        if expected is None or not secrets.compare_digest(given.password, expected):
            raise HTTPException(
                401, "Incorrect username or password", {"WWW-Authenticate": "Basic"}
            )

    return check


def _error(_request: Request, error: Exception) -> JSONResponse:
    words = {
        "error": type(error).__name__,
        "detail": getattr(error, "detail", ""),
        "body": getattr(error, "body", ""),
        "errors": str(error),
    }
    return JSONResponse(words, status_code=getattr(error, "status_code", 500))


def _add_drawing(app: APIRouter, webui: WebUI) -> None:
    """Routes that take long; plain functions run in threads, so that others answer meanwhile."""

    @app.post("/sdapi/v1/txt2img", response_model=None)
    def txt2img(asked: Txt2Img) -> dict[str, Any] | Response:
        return answer(webui, "txt2img", asked)

    @app.post("/sdapi/v1/img2img", response_model=None)
    def img2img(asked: Img2Img) -> dict[str, Any] | Response:
        return answer(webui, "img2img", asked)

    @app.post("/sdapi/v1/extra-single-image")
    def extra_single_image(asked: Extras) -> dict[str, str]:
        image = decode(asked.image)
        try:
            image = used_models.enlarge(webui, image, asked)
        except ValueError:
            raise HTTPException(500, "Invalid encoded image") from None
        if asked.gfpgan_visibility:
            image = used_models.restore_faces(webui, image, "GFPGAN")
        if asked.codeformer_visibility:
            image = used_models.restore_faces(webui, image, "CodeFormer")
        return {"html_info": "", "image": base64.b64encode(image).decode()}

    @app.post("/sdapi/v1/interrogate")
    def interrogate(asked: Interrogate) -> dict[str, str]:
        if not asked.image:
            raise HTTPException(404, "Image not found")
        if asked.model not in ("clip", "deepdanbooru"):
            raise HTTPException(404, "Model not found")
        return {"caption": used_models.describe(webui, asked.model, decode(asked.image))}

    @app.post("/sdapi/v1/interrupt")
    def interrupt() -> dict[str, str]:
        webui.job.interrupted = True
        return {}


def _options_model() -> type[BaseModel]:
    """The answer of /options: known options only, typed by their default unless that is empty."""
    fields: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        number = isinstance(default, int) and not isinstance(default, bool)
        kind = (float if number else type(default)) if default else Any
        fields[name] = (kind | None, Field(default=default))
    return create_model("Options", **fields)


def _add_state(app: APIRouter, webui: WebUI) -> None:
    """Routes that answer at any time."""

    @app.get("/sdapi/v1/progress")
    def progress(skip_current_image: bool = False) -> dict[str, Any]:
        faults.at_progress()
        job = webui.job
        image = None
        if job.count and job.step and not skip_current_image:
            # Of the size of the latent image, as "Approx NN" makes it; another one at each step.
            image = base64.b64encode(png(8, 8, bytes([job.step % 256]) * 192)).decode()
        done = (job.number + job.step / max(job.steps, 1)) / job.count if job.count else 0.0
        state = {
            "skipped": False,
            "interrupted": job.interrupted,
            "job": job.name,
            "job_count": job.count,
            "job_no": job.number,
            "job_timestamp": job.stamp,
            "sampling_step": job.step,
            "sampling_steps": job.steps,
        }
        progress = min(done, 1.0)
        words = {"progress": progress, "eta_relative": 0.0, "state": state}
        return {**words, "current_image": image, "textinfo": None}

    @app.get("/sdapi/v1/options", response_model=_options_model())
    def get_options() -> dict[str, Any]:
        return webui.options

    @app.post("/sdapi/v1/options")
    def set_options(changes: dict[str, Any]) -> None:
        webui.set_options(changes)
        webui.save_options()

    @app.get("/sdapi/v1/cmd-flags")
    def cmd_flags() -> dict[str, Any]:
        return vars(webui.flags)

    @app.get("/sdapi/v1/samplers")
    def samplers() -> list[dict[str, Any]]:
        return [{"name": name, "aliases": also, "options": {}} for name, also in SAMPLERS.items()]

    @app.get("/sdapi/v1/schedulers")
    def schedulers() -> list[dict[str, Any]]:
        return [
            {"name": name, "label": label, "aliases": None} for name, label in SCHEDULERS.items()
        ]

    @app.get("/sdapi/v1/memory")
    def memory() -> dict[str, Any]:
        process = psutil.Process()
        used = process.memory_info().rss
        total = 100 * used / process.memory_percent()
        ram = {"free": total - used, "used": used, "total": total}
        return {"ram": ram, "cuda": webui.engine.cuda_memory()}


def _add_models(app: APIRouter, webui: WebUI) -> None:
    """Routes that list model files, and those that look for them again."""

    @app.get("/sdapi/v1/sd-models")
    def sd_models() -> list[dict[str, Any]]:
        rows = []
        for title, file in webui.checkpoints.items():
            near = file.with_suffix(".yaml")
            names = {"title": title, "model_name": title.replace("/", "_").rpartition(".")[0]}
            config = str(near) if near.exists() else None
            rows.append(
                {**names, "filename": str(file), "hash": None, "sha256": None, "config": config}
            )
        return rows

    @app.get("/sdapi/v1/sd-vae")
    def sd_vae() -> list[dict[str, Any]]:
        return [
            {"model_name": name, "filename": str(file)} for name, file in webui.lists.vaes.items()
        ]

    @app.get("/sdapi/v1/loras")
    def loras() -> list[dict[str, Any]]:
        return [
            {"name": name, "alias": name, "path": str(file), "metadata": {}}
            for name, file in webui.lists.loras.items()
        ]

    @app.get("/sdapi/v1/hypernetworks")
    def hypernetworks() -> list[dict[str, Any]]:
        return [
            {"name": name, "path": str(file)} for name, file in webui.lists.hypernetworks.items()
        ]

    @app.get("/sdapi/v1/face-restorers")
    def face_restorers() -> list[dict[str, Any]]:
        return [{"name": name, "cmd_dir": None} for name in used_models.RESTORERS]

    @app.get("/sdapi/v1/embeddings")
    def embeddings() -> dict[str, Any]:
        unknown = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
        shape = {"shape": 768, "vectors": 1}
        return {
            "loaded": {name: {**unknown, **shape} for name in webui.lists.embeddings},
            "skipped": {},
        }

    @app.get("/sdapi/v1/upscalers")
    def upscalers() -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "model_name": None,
                "model_path": str(file) if file else None,
                "model_url": None,
                "scale": 4,
            }
            for name, file in webui.lists.upscalers.items()
        ]

    @app.get("/sdapi/v1/latent-upscale-modes")
    def latent_upscale_modes() -> list[dict[str, Any]]:
        return [{"name": name} for name in used_models.LATENT_MODES]

    @app.get("/sdapi/v1/prompt-styles")
    def prompt_styles() -> list[dict[str, Any]]:
        return []

    @app.post("/sdapi/v1/refresh-checkpoints")
    @app.post("/sdapi/v1/refresh-vae")
    @app.post("/sdapi/v1/refresh-loras")
    @app.post("/sdapi/v1/refresh-embeddings")
    def refresh() -> None:
        webui.list_models()


def _add_extensions(app: APIRouter, webui: WebUI) -> None:
    """Routes that list extensions and their scripts."""

    @app.get("/sdapi/v1/scripts")
    def scripts() -> dict[str, list[str]]:
        return {
            name: [script.name for script in runner.scripts if script.name is not None]
            for name, runner in webui.runners.items()
        }

    @app.get("/sdapi/v1/script-info")
    def script_info() -> list[dict[str, Any]]:
        return [info for runner in webui.runners.values() for info in runner.infos]

    @app.get("/sdapi/v1/extensions")
    def list_extensions() -> list[dict[str, Any]]:
        extensions.list_extensions()
        for extension in extensions.extensions:
            extension.read_info_from_repo()
        return [
            {"name": each.name, "remote": each.remote, **each.git, "enabled": each.enabled}
            for each in extensions.extensions
            if each.remote is not None
        ]

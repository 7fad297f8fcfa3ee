"""What the container is told through its environment, in one table.

The README's table of variables is printed from `VARIABLES`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.container.log import LEVELS

CONTAINER_PATH: Final = Path("/opt/worker")
"""Where this code lies in the image; never on the WebUI's own import path."""


@dataclass(frozen=True)
class Variable:
    """One environment variable.

    Args:
        name: as it is set.
        default: what it is when not set or empty.
        meaning: what it does, for a person.
        choices: the only values allowed; any when empty.
    """

    name: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()


VARIABLES: Final = (
    Variable(
        "WORKER_MODE",
        "auto",
        "serverless takes RunPod's jobs, pod only serves the API; auto asks RunPod's environment",
        ("auto", "serverless", "pod"),
    ),
    Variable("ACCELERATOR", "cuda", "what to draw with; set by the image", ("cuda", "cpu")),
    Variable("WEBUI_ARGS", "", "further flags for the WebUI, after the worker's own"),
    Variable("WEBUI_HOST", "", "address to serve on; empty: 0.0.0.0, in serverless mode 127.0.0.1"),
    Variable("WEBUI_PORT", "3000", "port of the WebUI's API"),
    Variable("API_AUTH", "", "user:password that the API asks for; several with commas"),
    Variable("MODEL_PATH", "/model.safetensors", "checkpoint that is loaded at start"),
    Variable("MODEL_DIR", "", "folder of further checkpoints"),
    Variable("DATA_DIR", "", "where the WebUI keeps its settings; empty: below WORKER_DIR"),
    Variable("LOG_LEVEL", "info", "of the worker and of the WebUI", LEVELS),
    Variable(
        "PREFLIGHT",
        "warn",
        "the container's checks of itself: strict refuses to serve, warn says, off leaves out",
        ("strict", "warn", "off"),
    ),
    Variable("WARMUP", "64x64x1", "width x height x steps of the picture that proves readiness"),
    Variable("READY_TIMEOUT", "600", "seconds until that picture must be there"),
    Variable("STOP_TIMEOUT", "25", "seconds that running jobs get to end when asked to stop"),
    Variable("RESTARTS", "3", "times in a row that a dead WebUI is started again"),
    Variable("RESTART_PAUSE", "1", "seconds before the first restart; doubles up to a minute"),
    Variable("HANG_TIMEOUT", "120", "seconds without an answer until it is replaced; 0: never"),
    Variable("JOB_TIMEOUT", "600", "seconds that a job may take; a job may ask for less"),
    Variable("HANDLER_ARGS", "", "words for RunPod's SDK, such as --rp_serve_api"),
    Variable("METRICS_PORT", "9090", "loopback port of Prometheus metrics; 0: none"),
    Variable("TCMALLOC", "auto", "memory allocator of the WebUI: auto, off or a library's path"),
    Variable("PIP_CACHE_DIR", "/runpod-volume/.cache/a1111/pip", "pip's cache, on the volume"),
    Variable(
        "VOLUME_MODELS",
        "/opt/worker/volume-models.json",
        "list of the models that are fetched onto the volume at start; made by the build",
    ),
    Variable("VOLUME_DIR", "/runpod-volume", "where the network volume is mounted"),
    Variable("WORKER_DIR", "/tmp/a1111-worker", "writable folder for state and scratch files"),  # noqa: S108 - the container's own /tmp
    Variable("WORKER_USER", "worker", "account that serves when the container starts as root"),
    Variable("WEBUI_DIR", "/stable-diffusion-webui", "where the WebUI lies; set by the image"),
    Variable("WEBUI_PYTHON", "/opt/webui/bin/python", "the WebUI's Python; set by the image"),
)


@dataclass(frozen=True)
class Warmup:
    """The picture that proves that the worker can draw.

    Args:
        width: pixels.
        height: pixels.
        steps: sampling steps.
    """

    width: int
    height: int
    steps: int


@dataclass(frozen=True)
class Settings:
    """The environment, parsed. Fields are named after their variables; times are in seconds."""

    serverless: bool
    accelerator: str
    webui_args: tuple[str, ...]
    host: str
    port: int
    api_auth: str
    model_path: Path
    model_dir: Path | None
    data_dir: Path
    log_level: str
    preflight: str
    warmup: Warmup | None
    ready_timeout: float
    stop_timeout: float
    restarts: int
    restart_pause: float
    hang_timeout: float
    job_timeout: float
    handler_args: tuple[str, ...]
    metrics_port: int
    tcmalloc: str
    pip_cache_dir: Path
    volume_models: Path
    volume_dir: Path
    worker_dir: Path
    worker_user: str
    webui_dir: Path
    webui_python: Path

    @staticmethod
    def from_environment(environ: Mapping[str, str]) -> Settings:
        """Read every variable of the table.

        Raises:
            UserError: one has a value that cannot be (code `setting-invalid`).
        """
        text = {row.name: _checked(row, environ.get(row.name) or row.default) for row in VARIABLES}
        serverless = _is_serverless(text["WORKER_MODE"], environ)
        worker_dir = Path(text["WORKER_DIR"])
        return Settings(
            serverless=serverless,
            accelerator=text["ACCELERATOR"],
            webui_args=_words("WEBUI_ARGS", text["WEBUI_ARGS"]),
            # A serverless worker is spoken to by its own handler only; a pod by its users.
            host=text["WEBUI_HOST"] or ("127.0.0.1" if serverless else "0.0.0.0"),  # noqa: S104
            port=int(_number("WEBUI_PORT", text["WEBUI_PORT"])),
            api_auth=_credentials(text["API_AUTH"]),
            model_path=Path(text["MODEL_PATH"]),
            model_dir=Path(text["MODEL_DIR"]) if text["MODEL_DIR"] else None,
            data_dir=Path(text["DATA_DIR"]) if text["DATA_DIR"] else worker_dir / "data",
            log_level=text["LOG_LEVEL"],
            preflight=text["PREFLIGHT"],
            warmup=_warmup(text["WARMUP"]),
            ready_timeout=_number("READY_TIMEOUT", text["READY_TIMEOUT"]),
            stop_timeout=_number("STOP_TIMEOUT", text["STOP_TIMEOUT"]),
            restarts=int(_number("RESTARTS", text["RESTARTS"])),
            restart_pause=_number("RESTART_PAUSE", text["RESTART_PAUSE"]),
            hang_timeout=_number("HANG_TIMEOUT", text["HANG_TIMEOUT"]),
            job_timeout=_number("JOB_TIMEOUT", text["JOB_TIMEOUT"]),
            handler_args=_words("HANDLER_ARGS", text["HANDLER_ARGS"]),
            metrics_port=int(_number("METRICS_PORT", text["METRICS_PORT"])),
            tcmalloc=text["TCMALLOC"],
            pip_cache_dir=Path(text["PIP_CACHE_DIR"]),
            volume_models=Path(text["VOLUME_MODELS"]),
            volume_dir=Path(text["VOLUME_DIR"]),
            worker_dir=worker_dir,
            worker_user=text["WORKER_USER"],
            webui_dir=Path(text["WEBUI_DIR"]),
            webui_python=Path(text["WEBUI_PYTHON"]),
        )


def _is_serverless(mode: str, environ: Mapping[str, str]) -> bool:
    # RunPod sets both on serverless workers and neither on pods.
    asked = "RUNPOD_ENDPOINT_ID" in environ or "RUNPOD_WEBHOOK_GET_JOB" in environ
    return asked if mode == "auto" else mode == "serverless"


def _checked(row: Variable, value: str) -> str:
    if row.choices and value.lower() not in row.choices:
        raise _invalid(row.name, value, f"one of: {', '.join(row.choices)}")
    return value.lower() if row.choices else value


def _number(name: str, value: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value):
        raise _invalid(name, value, "set it to a number, or leave it out")
    return float(value)


def _credentials(value: str) -> str:
    # As the WebUI takes them apart: at commas, then at the one colon.
    if value and not all(re.fullmatch(r"[^:]+:[^:]+", part) for part in value.split(",")):
        hint = "say user:password, with no further colon or comma; several with commas"
        raise UserError("API_AUTH is no user:password", hint=hint, code="setting-invalid")
    return value


def _words(name: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise _invalid(name, value, "close every quote") from None


def _warmup(value: str) -> Warmup | None:
    if value.lower() in ("off", "0", "no", "false"):
        return None
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})x(\d{1,3})", value)
    if not match or int(match[1]) % 8 or int(match[2]) % 8 or not int(match[3]):
        raise _invalid("WARMUP", value, "say 64x64x1 with sides in eights, or off")
    return Warmup(int(match[1]), int(match[2]), int(match[3]))


def _invalid(name: str, value: str, hint: str) -> UserError:
    return UserError(f"{name} is {value!r}", hint=hint, code="setting-invalid")

"""Read the environment variables; each is described once, as a field of `Settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.webui_settings import parse_settings
from scripts.container import setting_parsers as parsers
from scripts.container.setting_parsers import ImageFlags, Warmup

CONTAINER_PATH: Final = Path("/opt/worker")
"""Folder of this code in the image; never on the WebUI's own import path."""

_PARSERS: Final[Mapping[str, parsers.Parser]] = {
    "str": str,
    "int": lambda text: int(parsers.parse_number(text)),
    "float": parsers.parse_number,
    "Path": Path,
    "Path | None": lambda text: Path(text) if text else None,
    "tuple[str, ...]": parsers.parse_arguments,
}


@dataclass(frozen=True)
class Variable:
    """An environment variable.

    Args:
        default: its value when it is not set or empty.
        meaning: its effect, for the reference.
        choices: the only values allowed, without regard to case; any when empty.
        parse: its parser; None for the parser of its field's type.
    """

    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    parse: parsers.Parser | None = None

    def read(self, name: str, environ: Mapping[str, str]) -> str:
        """Return the variable's text, in lower case where it is one of the choices.

        Raises:
            UserError: it is none of the choices (code `setting-invalid`).
        """
        value = environ.get(name) or self.default
        if self.choices and value.lower() not in self.choices:
            raise _invalid(name, value, f"one of: {', '.join(self.choices)}")
        return value.lower() if self.choices else value


def _env(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - a field of any type
    """Declare a field that is read from the environment; takes the arguments of `Variable`."""
    return field(metadata={"variable": Variable(*args, **options)})


@dataclass(frozen=True)
class Settings:
    """The environment, parsed: each field is read from the variable of its name. Times in seconds.

    `Variable` describes the arguments: default, meaning, choices and parser.
    """

    worker_mode: str = _env(
        "auto",
        "serverless takes RunPod's jobs, load-balancer serves the API with the checks of jobs on "
        "PORT, pod only serves the API; auto reads RunPod's environment",
        ("auto", "serverless", "load-balancer", "pod"),
    )
    accelerator: str = _env("cuda", "device that draws; set by the image", ("cuda", "cpu"))
    webui_args: tuple[str, ...] = _env("", "further flags for the WebUI, after the worker's own")
    image_flags: ImageFlags = _env(
        "",
        "flags that the image adds or removes, as JSON; made by the build",
        parse=parsers.parse_image_flags,
    )
    image_settings: Mapping[str, Any] = _env(
        "",
        "options of the WebUI that the image sets, as JSON; made by the build",
        parse=parse_settings,
    )
    webui_settings: Mapping[str, Any] = _env(
        "",
        "options of the WebUI as JSON, over the image's and over saved ones: "
        '{"CLIP_stop_at_last_layers": 2}',
        parse=parse_settings,
    )
    webui_lazy_imports: str = _env(
        "on",
        "on runs the code of packages that serving does not need at their first use; off at the "
        "start",
        ("on", "off"),
    )
    gpu_memory: str = _env(
        "auto",
        "auto gives --lowvram, --medvram or --medvram-sdxl to the WebUI where the GPU is small for "
        "the checkpoint, unless one of them is set by hand",
        ("auto", "off"),
    )
    pytorch_cuda_alloc_conf: str = _env(
        "",
        "torch's CUDA allocator, such as expandable_segments:True; empty: torch's own defaults",
        parse=parsers.parse_alloc_conf,
    )
    webui_host: str = _env("", "address to serve on; empty: 0.0.0.0 in mode pod, else 127.0.0.1")
    webui_port: int = _env("3000", "port of the WebUI's API", parse=parsers.parse_port)
    port: int = _env(
        "80", "port of the API in mode load-balancer; RunPod's own name", parse=parsers.parse_port
    )
    port_health: int = _env(
        "", "port of /ping in mode load-balancer; empty: PORT", parse=parsers.parse_port
    )
    api_auth: str = _env(
        "",
        "user:password that the API requires; several with commas",
        parse=parsers.parse_credentials,
    )
    model_path: Path = _env(
        "/model.safetensors",
        "checkpoint that is loaded at start: a path, the name of one that is found, or "
        "hub:owner/repo/file[@revision]; set by the image where it holds none",
        parse=parsers.parse_model_path,
    )
    checkpoint_name: str = _env(
        "model.safetensors",
        "name in the WebUI of the image's own checkpoint, /model.safetensors; made by the build",
        parse=parsers.parse_checkpoint_name,
    )
    hub_caches: tuple[Path, ...] = _env(
        "/runpod-volume/huggingface-cache/hub,/runpod/model-store/huggingface,"
        "/workspace/.cache/huggingface/hub,/opt/huggingface/hub",
        "folders with files of the Hub, with commas, in which MODEL_PATH=hub:… is looked for: "
        "RunPod's cached models, then other caches of the Hub's client",
        parse=parsers.parse_folders,
    )
    hf_endpoint: str = _env(
        "https://huggingface.co", "address of the Hub, for models that are downloaded to the volume"
    )
    cached_models: Path = _env(
        "/opt/worker/cached-models.json",
        "list of what cached models must be; made by the build",
    )
    model_dir: Path | None = _env("", "folder of further checkpoints")
    image_models: Path = _env(
        "/opt/a1111", "models of the image, in the shape of DATA_DIR; made by the build"
    )
    image_extensions: Path = _env(
        "/opt/extensions", "extensions of the image, a folder each; made by the build"
    )
    volume_extensions: str = _env(
        "on",
        "on loads extensions that lie on a volume and installs what they need; off leaves them out",
        ("on", "off"),
    )
    model_scan_timeout: float = _env(
        "60",
        "seconds that the folders of models and extensions get to answer at start",
        parse=parsers.parse_limit,
    )
    checkpoints_in_memory: int = _env(
        "0",
        "checkpoints that stay in memory when jobs switch between them; 0: as the WebUI is set up",
        parse=parsers.parse_checkpoint_count,
    )
    data_dir: Path = _env("", "folder of the WebUI's settings; empty: below WORKER_DIR")
    log_level: str = _env(
        "info", "log level of the worker and of the WebUI", ("debug", "info", "warning", "error")
    )
    preflight: str = _env(
        "warn",
        "the container's self-checks: strict refuses to serve, warn logs, off skips them",
        ("strict", "warn", "off"),
    )
    warmup: tuple[Warmup, ...] = _env(
        "64x64x1",
        "images that are drawn before the worker is ready, as width x height, or with x steps: "
        "512x512,832x1216; off: none",
        parse=parsers.parse_warmup,
    )
    ready_timeout: float = _env(
        "600",
        "seconds after the worker's start until those images must be there, downloads included",
        parse=parsers.parse_limit,
    )
    stop_timeout: float = _env("25", "seconds that running jobs get to end at a stop")
    restarts: int = _env("3", "times in a row that a dead WebUI is started again")
    restart_pause: float = _env("1", "seconds before the first restart; doubles up to a minute")
    hang_timeout: float = _env("120", "seconds without an answer until it is replaced; 0: never")
    job_timeout: float = _env(
        "600",
        "seconds that a job may take; a job may set a lower limit",
        parse=parsers.parse_limit,
    )
    strict_input: str = _env(
        "warn",
        "fields of a job that the WebUI does not know: warn names them in the answer, refuse fails "
        "the job",
        ("warn", "refuse"),
    )
    api_allow: tuple[str, ...] = _env(
        "",
        "prefixes of routes that jobs may use beside /sdapi/v1/, with commas: /controlnet/",
        parse=parsers.parse_prefixes,
    )
    job_downloads: tuple[str, ...] = _env(
        "",
        "hosts from which jobs may have LoRAs and checkpoints downloaded, with commas: "
        "huggingface.co,civitai.com; empty: none",
        parse=parsers.parse_hosts,
    )
    job_downloads_unverified: str = _env(
        "off", "on takes downloads of jobs without sha256", ("on", "off")
    )
    job_downloads_max: int = _env(
        "20GB",
        "bytes of downloads of jobs that are kept; the least recently used go first",
        parse=parsers.parse_bytes,
    )
    build_id: str = _env("", "ID of the build, which a smoke report names; made by the build")
    image_smoke: str = _env(
        "", "what the command `smoke` expects of the image, as JSON; made by the build"
    )
    handler_args: tuple[str, ...] = _env("", "arguments for RunPod's SDK, such as --rp_serve_api")
    metrics_port: int = _env(
        "9090", "loopback port of Prometheus metrics; 0: none", parse=parsers.parse_port
    )
    tcmalloc: str = _env("auto", "memory allocator of the WebUI: auto, off or a library's path")
    pip_cache_dir: Path = _env("/runpod-volume/.cache/a1111/pip", "pip's cache, on the volume")
    volume_models: Path = _env(
        "/opt/worker/volume-models.json",
        "list of the models that are fetched onto the volume at start; made by the build",
    )
    volume_dir: Path = _env("/runpod-volume", "mount point of the network volume")
    pod_volume_dir: Path = _env(
        "/workspace", "mount point of a pod's volume, in which models are looked for too"
    )
    worker_dir: Path = _env(
        "/tmp/a1111-worker",  # noqa: S108 - the container's own /tmp
        "writable folder for state and scratch files",
    )
    worker_user: str = _env("worker", "account that serves when the container starts as root")
    webui_dir: Path = _env("/stable-diffusion-webui", "folder of the WebUI; set by the image")
    webui_python: Path = _env("/opt/webui/bin/python", "the WebUI's Python; set by the image")

    @property
    def is_serverless(self) -> bool:
        """Return whether the worker takes RunPod's jobs."""
        return self.worker_mode == "serverless"

    @property
    def is_load_balancer(self) -> bool:
        """Return whether the worker serves a load-balancing endpoint."""
        return self.worker_mode == "load-balancer"

    @property
    def further_flags(self) -> tuple[str, ...]:
        """Return the WebUI's arguments after the worker's own: the image's, then WEBUI_ARGS."""
        return (*self.image_flags.add, *self.webui_args)

    @staticmethod
    def from_environment(environ: Mapping[str, str]) -> Settings:
        """Read every variable.

        Raises:
            UserError: one has a value that is not allowed (code `setting-invalid`).
        """
        texts = {name: row.read(name, environ) for name, row in VARIABLES.items()}
        if texts["WORKER_MODE"] == "auto":
            # RunPod sets both on serverless workers and neither on pods.
            serverless = {"RUNPOD_ENDPOINT_ID", "RUNPOD_WEBHOOK_GET_JOB"} & set(environ)
            texts["WORKER_MODE"] = "serverless" if serverless else "pod"
        # Other workers are called by their own handler only; a pod by its users.
        usual_host = "0.0.0.0" if texts["WORKER_MODE"] == "pod" else "127.0.0.1"  # noqa: S104
        texts["WEBUI_HOST"] = texts["WEBUI_HOST"] or usual_host
        texts["PORT_HEALTH"] = texts["PORT_HEALTH"] or texts["PORT"]
        texts["DATA_DIR"] = texts["DATA_DIR"] or f"{texts['WORKER_DIR']}/data"
        values = {}
        for row in fields(Settings):
            variable, text = VARIABLES[row.name.upper()], texts[row.name.upper()]
            parse = variable.parse or _PARSERS[str(row.type)]
            try:
                values[row.name] = parse(text)
            except ValueError as error:
                raise _invalid(row.name.upper(), text, str(error)) from None
        return Settings(**values)


def _invalid(name: str, value: str, hint: str) -> UserError:
    return UserError(f"{name} is {value!r}", hint=hint, code="setting-invalid")


VARIABLES: Final[Mapping[str, Variable]] = {
    row.name.upper(): row.metadata["variable"] for row in fields(Settings)
}
"""Every variable by its name; the reference of variables is generated from it."""

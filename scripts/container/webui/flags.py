"""Build the WebUI's command line from the settings."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.common.models.kinds import CLIP_FOLDER, PICKLE_SUFFIXES
from scripts.common.webui_flags import Condition, select_builtin_flags
from scripts.container.paths import list_volume_models
from scripts.container.settings import Settings
from scripts.container.webui.model_tree import ModelTree


def webui_command(
    settings: Settings, tree: ModelTree, model_flags: Sequence[str] = ()
) -> list[str]:
    """Return the whole command line: Python, launcher, script and flags.

    Args:
        settings: the environment.
        tree: all models that were found.
        model_flags: those chosen for this checkpoint on this GPU.
    """
    launcher = Path(__file__).with_name("launcher.py")
    heap, host, port = settings.worker_dir / "heap.json", settings.webui_host, settings.webui_port
    launch = map(str, (settings.webui_python, launcher, heap, host, port, "webui.py"))
    models = list_model_files(settings, tree)
    return [*launch, *webui_flags(settings, tree.checkpoint, models, model_flags)]


def webui_flags(
    settings: Settings,
    checkpoint: Path,
    models: Iterable[str],
    model_flags: Sequence[str] = (),
) -> list[str]:
    """Return the arguments of `webui.py`.

    Args:
        settings: the environment.
        checkpoint: the one that is loaded at start.
        models: names of all files the WebUI could load as a model, beside it.
        model_flags: those chosen for this checkpoint on this GPU.
    """
    conditions: list[Condition] = ["always", "cpu" if settings.accelerator == "cpu" else "cuda"]
    if not _includes_pickle(checkpoint.name, models):
        conditions.append("no-pickle")
    flags = [
        *select_builtin_flags(conditions, settings.image_flags.remove),
        *model_flags,
        *("--ckpt", str(checkpoint)),
        *("--data-dir", str(settings.data_dir)),
        # By default the interrogator's ViT-L-14.pt lies in the home folder, out of reach of links.
        *("--clip-models-path", str(settings.data_dir / CLIP_FOLDER)),
        # Without a name the server would listen on every interface.
        *("--server-name", settings.webui_host, "--port", str(settings.webui_port)),
        *("--loglevel", settings.log_level.upper()),
    ]
    if settings.model_dir:
        flags += ["--ckpt-dir", str(settings.model_dir)]
    return [*flags, *settings.further_flags]


def secret_flags(settings: Settings) -> str:
    """Return flags that no process list may show, for the WebUI's COMMANDLINE_ARGS variable."""
    return shlex.join(["--api-auth", settings.api_auth]) if settings.api_auth else ""


def list_model_files(settings: Settings, tree: ModelTree) -> list[str]:
    """Return the names of all files that the WebUI could load as a model, beside the checkpoint.

    The files of the WebUI itself are at a pinned commit and do not count.
    """
    # --vae-dir=/x, --vae-dir /x
    arguments = [argument.rpartition("=")[2] for argument in settings.further_flags]
    folders = [Path(argument) for argument in arguments if argument.startswith("/")]
    found = [path.name for folder in folders if folder.is_dir() for path in folder.rglob("*")]
    fetched = [path.name for path in list_volume_models(settings)]
    models = [name for entry in tree.entries for name in (entry.name, *entry.companions)]
    return [*models, *fetched, *arguments, *found]


def _includes_pickle(checkpoint: str, models: Iterable[str]) -> bool:
    """Return whether the WebUI's scan of pickles, which the flag switches off, is needed.

    The WebUI unpickles every checkpoint that is not named as safetensors, whatever its name.
    """
    if not checkpoint.lower().endswith(".safetensors"):
        return True
    return any(name.lower().endswith(PICKLE_SUFFIXES) for name in models)

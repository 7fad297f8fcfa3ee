"""The command line: the flags of the real WebUI that a worker may give; others end it, as there."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from modules import extensions, script_loading

HERE = Path(__file__).resolve().parent.parent

SWITCHES = [
    "api",
    "api-log",
    "api-server-stop",
    "nowebui",
    "listen",
    "no-half",
    "no-half-vae",
    "lowvram",
    "medvram",
    "medvram-sdxl",
    "upcast-sampling",
    "xformers",
    "force-enable-xformers",
    "opt-sdp-attention",
    "opt-sdp-no-mem-attention",
    "opt-split-attention",
    "opt-channelslast",
    "disable-nan-check",
    "no-hashing",
    "no-download-sd-model",
    "disable-safe-unpickle",
    "skip-load-model-at-start",
    "do-not-download-clip",
    "freeze-settings",
    "disable-all-extensions",
    "disable-extra-extensions",
    "enable-insecure-extension-access",
    "skip-python-version-check",
    "skip-torch-cuda-test",
    "skip-install",
    "skip-version-check",
    "skip-prepare-environment",
]

VALUES = {
    "port": 7860,
    "server-name": None,
    "device-id": None,
    "api-auth": None,
    "ckpt": None,
    "ckpt-dir": None,
    "vae-path": None,
    "vae-dir": None,
    "lora-dir": None,
    "embeddings-dir": None,
    "data-dir": str(HERE),
    "clip-models-path": None,
    "models-dir": None,
    "ui-settings-file": None,
    "loglevel": None,
    "precision": "autocast",
    "subpath": None,
    "cors-allow-origins": None,
    "timeout-keep-alive": 30,
}


def parse() -> argparse.Namespace:
    """The flags of the command line and of COMMANDLINE_ARGS, with derived defaults filled in."""
    parser = argparse.ArgumentParser(prog="webui.py", allow_abbrev=False)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    for name, default in VALUES.items():
        kind = int if isinstance(default, int) else str
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--use-cpu", nargs="+", default=[])
    given = sys.argv[1:] + shlex.split(os.environ.get("COMMANDLINE_ARGS", ""))
    _preload(parser, given)
    flags = parser.parse_args(given)
    data = Path(flags.data_dir)
    flags.models_dir = flags.models_dir or str(data / "models")
    flags.ui_settings_file = flags.ui_settings_file or str(data / "config.json")
    return flags


def _preload(parser: argparse.ArgumentParser, given: list[str]) -> None:
    """Let extensions add flags, but for those that a flag or the settings file disables."""
    early, _ = parser.parse_known_args(given)
    data = Path(early.data_dir)
    file = Path(early.ui_settings_file or data / "config.json")
    settings = json.loads(file.read_text()) if file.exists() else {}
    is_off = settings.get("disable_all_extensions", "none") != "none"
    if not (is_off or early.disable_extra_extensions or early.disable_all_extensions):
        folder = data / "extensions"
        names = extensions.names_of_enabled(folder, settings.get("disabled_extensions", []))
        script_loading.preload_extensions(folder, parser, names)

"""Load the files of extensions as modules (upstream's modules/script_loading.py)."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from modules import errors


def load_module(path: str) -> ModuleType:
    """Run a file as a module named after it."""
    spec = importlib.util.spec_from_file_location(Path(path).name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def preload_extensions(folder: Path, parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Let the extensions add flags; one that fails is reported, and its flags are unknown then."""
    for name in sorted(names):
        script = folder / name / "preload.py"
        if not script.is_file():
            continue
        try:
            module = load_module(str(script))
            if hasattr(module, "preload"):
                module.preload(parser)
        except Exception:
            errors.report(f"Error running preload() for {script}", exc_info=True)

"""Offer what installers of extensions call (modules/launch_utils.py); standard library only."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shlex
import subprocess
import sys

python = sys.executable
index_url = os.environ.get("INDEX_URL", "")

_parser = argparse.ArgumentParser(add_help=False)
_parser.add_argument("--skip-install", action="store_true")
args, _ = _parser.parse_known_args(
    sys.argv[1:] + shlex.split(os.environ.get("COMMANDLINE_ARGS", ""))
)


def run(command: str, desc: str | None = None, errdesc: str | None = None, **_: object) -> str:
    """Run a command in a shell and return its output.

    Raises:
        RuntimeError: it failed; the message holds its output.
    """
    if desc is not None:
        print(desc)
    done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
    if done.returncode:
        raise RuntimeError(
            f"{errdesc or 'Error running command'}.\nCommand: {command}\n"
            f"Error code: {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
        )
    return done.stdout


def run_pip(command: str, desc: str | None = None, **_: object) -> str | None:
    """Run pip; nothing under `--skip-install`."""
    if args.skip_install:
        return None
    index = f" --index-url {index_url}" if index_url else ""
    line = f'"{python}" -m pip {command} --prefer-binary{index}'
    return run(line, f"Installing {desc}", f"Couldn't install {desc}")


def is_installed(package: str) -> bool:
    """Return whether a distribution, or else a module, of that name is there."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        try:
            return importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:
            return False
    return True

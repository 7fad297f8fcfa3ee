"""Ask pip for what the script needs, in the three ways that extensions use."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import launch

for line in (Path(__file__).parent / "requirements.txt").read_text().split():
    name = line.partition(">")[0]
    if not launch.is_installed(name):
        launch.run_pip(f'install "{line}"', f"sd-webui-standin requirement: {name}")

if not launch.is_installed("webcolors"):
    launch.run_pip('install "webcolors>=24"', "sd-webui-standin requirement: webcolors")

try:
    importlib.metadata.version("iniconfig")
except importlib.metadata.PackageNotFoundError:
    subprocess.run([sys.executable, "-m", "pip", "install", "iniconfig>=2,<3"], check=True)

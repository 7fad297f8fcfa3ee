"""Fails the build when torch is not the base image's own, or xformers is not made for it.

Run in the image by the environment the WebUI will use. Compares what that environment imports with
what the base image carries; reads only metadata, so that it needs no GPU and no second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version

BASE_PYTHON = "/opt/conda/bin/python"
PROTECTED = ("torch", "torchvision", "torchaudio", "triton")
XFORMERS_FOR_TORCH = {"2.7.0": "0.0.30"}  # https://github.com/facebookresearch/xformers/releases


def base_version(package: str) -> str:
    """The version the base image's own Python sees, empty when it has none."""
    code = (
        "import importlib.metadata as m\n"
        f"try: print(m.version({package!r}))\n"
        "except m.PackageNotFoundError: print()"
    )
    run = [BASE_PYTHON, "-c", code]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()


def problems() -> list[str]:
    """One line for each thing that would break on the GPU."""
    own = {
        dist.metadata["Name"].lower()
        for dist in distributions(path=[p for p in sys.path if p.startswith(sys.prefix)])
    }
    found = [
        f"{name} was installed over the base image's {base_version(name) or 'none'}"
        for name in sorted(own)
        if name in PROTECTED or name.startswith("nvidia-")
    ]
    torch = version("torch").partition("+")[0]
    if os.environ.get("ACCELERATOR", "cuda") == "cpu":
        if "xformers" in own:
            found.append("xformers is installed, and breaks drawing on the CPU")
        return found
    try:
        xformers = version("xformers")
    except PackageNotFoundError:
        return [*found, "xformers is missing"]
    expected = XFORMERS_FOR_TORCH.get(torch)
    if expected and xformers.partition("+")[0] != expected:
        found.append(f"xformers {xformers} is not made for torch {torch}; {expected} is")
    return found


def main() -> int:
    """Print every problem; 0 when there is none."""
    found = problems()
    for line in found:
        print(f"check-packages: {line} - run: invoke pin --python", file=sys.stderr)
    if not found:
        print(f"torch {version('torch')} is the base image's own")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fail the build if torch is not the base image's own, or xformers is not made for it.

    python check-packages.py ENVIRONMENT...

Run by the base image's Python. The ENVIRONMENTs become one in the image, where their packages hide
those of the base. Only metadata is read, so it needs no GPU and less than a second.
"""

import os
import re
import sys
from importlib.metadata import distributions, version
from pathlib import Path

PROTECTED = ("torch", "torchvision", "torchaudio", "triton")
CUDA_LIBRARY = re.compile(r"nvidia-.+-cu\d+")  # not nvidia-ml-py, which ultralytics asks for
XFORMERS_FOR_TORCH = {"2.7.0": "0.0.30"}  # https://github.com/facebookresearch/xformers/releases


def own_packages(environment: Path) -> dict[str, str]:
    """Return the versions of an environment's own packages, by name in lower case."""
    folders = [str(folder) for folder in environment.glob("lib/python3*/site-packages")]
    return {each.metadata["Name"].lower(): each.version for each in distributions(path=folders)}


def problems(own: dict[str, str], torch: str) -> list[str]:
    """Describe each package that would break drawing, in one line.

    Args:
        own: the environments' packages.
        torch: version of the base image's torch.
    """
    found = [
        f"{name} {own[name]} was installed over the base image's"
        for name in sorted(own)
        if name in PROTECTED or CUDA_LIBRARY.fullmatch(name)
    ]
    xformers = own.get("xformers", "")
    if os.environ.get("ACCELERATOR", "cuda") == "cpu":
        return found + ["xformers is installed, and breaks drawing on the CPU"] * bool(xformers)
    if not xformers:
        return [*found, "xformers is missing"]
    expected = XFORMERS_FOR_TORCH.get(torch.partition("+")[0])
    if expected and xformers.partition("+")[0] != expected:
        found.append(f"xformers {xformers} is not made for torch {torch}; {expected} is")
    return found


def main() -> int:
    """Print every problem, and return the exit code."""
    own: dict[str, str] = {}
    for environment in sys.argv[1:]:
        own |= own_packages(Path(environment))
    torch = version("torch")
    found = problems(own, torch)
    for line in found:
        print(f"check-packages: {line} - run: invoke pin --python", file=sys.stderr)
    if not found:
        print(f"torch {torch} is the base image's own")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

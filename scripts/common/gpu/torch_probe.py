"""Runs in the WebUI's own Python and prints what torch and xformers are, as one JSON line.

A script, not a module: the WebUI's Python does not see the worker's code. With `--kernels` it also
launches a real matrix product, convolution and attention on the GPU, because a library that
imports may still carry no code for the device.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any


def main(words: list[str]) -> int:
    """Print the facts; a failed import is a fact, too."""
    began = time.monotonic()
    try:
        import torch  # type: ignore[import-not-found]  # only in the image
    except Exception as error:  # a broken library raises what it likes
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return 0
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "cudnn": torch.backends.cudnn.version() or 0,
        # torch.cuda.get_arch_list() is empty where there is no GPU; this is what it reads.
        "archs": _flags(torch),
        "seconds": time.monotonic() - began,
        **xformers(),
    }
    if "--kernels" in words and torch.cuda.is_available():
        facts["capability"] = list(torch.cuda.get_device_capability(0))
        facts["kernels"] = {name: _tried(launch) for name, launch in kernels(torch).items()}
    print(json.dumps(facts))
    return 0


def _flags(torch: Any) -> list[str]:  # noqa: ANN401 - a module
    read = getattr(torch._C, "_cuda_getArchFlags", None)
    return (read() or "").split() if read else []


def xformers() -> dict[str, str]:
    """Its version, and the torch it was built for, read from the file that its build leaves."""
    try:
        found = distribution("xformers")
    except PackageNotFoundError:
        return {}
    try:
        built = json.loads(found.read_text("../xformers/cpp_lib.json") or "{}")
        made_for = str(built["version"]["torch"])
    except (OSError, ValueError, KeyError, TypeError):
        made_for = ""
    return {"xformers": found.version, "xformers_torch": made_for}


def kernels(torch: Any) -> dict[str, Callable[[], None]]:  # noqa: ANN401 - a module
    """What must run on the GPU before it can draw, by name."""

    def matmul() -> None:
        square = torch.ones(64, 64, device="cuda", dtype=torch.float16)
        _expect((square @ square)[0, 0].item(), 64.0)

    def convolution() -> None:
        image = torch.ones(1, 4, 16, 16, device="cuda", dtype=torch.float16)
        weight = torch.ones(4, 4, 3, 3, device="cuda", dtype=torch.float16)
        result = torch.nn.functional.conv2d(image, weight, padding=1)
        _expect(result[0, 0, 8, 8].item(), 36.0)

    def attention() -> None:
        import xformers.ops  # type: ignore[import-not-found]  # only in images for a GPU

        query = torch.ones(1, 32, 1, 64, device="cuda", dtype=torch.float16)
        result = xformers.ops.memory_efficient_attention(query, query, query)
        _expect(result[0, 0, 0, 0].item(), 1.0)

    return {"matmul": matmul, "convolution": convolution, "attention": attention}


def _expect(found: float, wanted: float) -> None:
    if abs(found - wanted) > 0.01 * wanted:
        raise ArithmeticError(f"{found} instead of {wanted}")


def _tried(launch: Callable[[], None]) -> str:
    try:
        launch()
    except Exception as error:  # whatever the driver or a library raises is the finding
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are not torch's business
    sys.exit(main(sys.argv[1:]))

"""Print what torch and xformers are and compute, as one JSON line.

    python torch_probe.py [DTYPE ...]

A script for the WebUI's Python, started by its path or as text (`python -c`): it imports nothing of
this project. For each DTYPE (`float16`, `bfloat16`) it runs a matrix product, a convolution and an
attention on the GPU, because a library that imports may still carry no code for the device, and
compares each with the same computation on the CPU in single precision.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

Torch = Any  # the module: not installed where this file is type-checked


def main(dtypes: list[str]) -> None:
    """Print the facts; a failed import is one, too."""
    started = time.monotonic()
    try:
        import torch  # type: ignore[import-not-found]  # only in the image
    except Exception as error:  # a broken library may raise anything
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "cudnn": torch.backends.cudnn.version() or 0,
        "archs": read_archs(torch),
        "seconds": time.monotonic() - started,
        **read_xformers(),
    }
    if dtypes:
        no_gpu = attempt(torch.cuda.init)
        facts["devices"] = [] if no_gpu else read_devices(torch)
        torch.manual_seed(0)
        facts["kernels"] = {
            kernel.__name__: {
                dtype: no_gpu or attempt(partial(kernel, torch, getattr(torch, dtype)))
                for dtype in dtypes
            }
            for kernel in (matmul, convolution, attention)
        }
    print(json.dumps(facts))


def read_archs(torch: Torch) -> list[str]:
    """Return what torch carries code for.

    `torch.cuda.get_arch_list()` is empty where there is no GPU; this is what it reads.
    """
    read = getattr(torch._C, "_cuda_getArchFlags", None)
    return (read() or "").split() if read else []


def read_xformers() -> dict[str, str]:
    """Return its version, and the torch it was built for, from the file that its build leaves."""
    try:
        found = distribution("xformers")
    except PackageNotFoundError:
        return {}
    try:
        build = json.loads(found.read_text("../xformers/cpp_lib.json") or "{}")
        built_for = str(build["version"]["torch"])
    except (OSError, ValueError, KeyError, TypeError):
        built_for = ""
    return {"xformers": found.version, "xformers_torch": built_for}


def read_devices(torch: Torch) -> list[dict[str, Any]]:
    """Return the GPUs that torch can use."""
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [
        {"name": gpu.name, "memory": gpu.total_memory, "capability": [gpu.major, gpu.minor]}
        for gpu in found
    ]


def attempt(compute: Callable[[], Any]) -> Any:  # noqa: ANN401 - as the function returns
    """Return a function's result, or the text of its error."""
    try:
        return compute()
    except Exception as error:  # whatever the driver or a library raises is the result
        return f"{type(error).__name__}: {error}"


def matmul(torch: Torch, dtype: Any) -> float:  # noqa: ANN401 - a torch.dtype
    """Multiply two matrices, by cuBLAS."""
    square = torch.randn(256, 256)
    on_gpu = square.to("cuda", dtype)
    return difference(on_gpu @ on_gpu, square @ square)


def convolution(torch: Torch, dtype: Any) -> float:  # noqa: ANN401 - a torch.dtype
    """Convolve images, by cuDNN."""
    image, weight = torch.randn(2, 8, 64, 64), torch.randn(8, 8, 3, 3)
    result = torch.nn.functional.conv2d(image.to("cuda", dtype), weight.to("cuda", dtype))
    return difference(result, torch.nn.functional.conv2d(image, weight))


def attention(torch: Torch, dtype: Any) -> float:  # noqa: ANN401 - a torch.dtype
    """Compute attention by xformers and by torch, whose heads and positions are swapped."""
    import xformers.ops  # type: ignore[import-not-found]  # only in images for a GPU

    parts = [torch.randn(2, 128, 4, 64) for _ in range(3)]
    result = xformers.ops.memory_efficient_attention(*(part.to("cuda", dtype) for part in parts))
    swapped = (part.transpose(1, 2) for part in parts)
    expected = torch.nn.functional.scaled_dot_product_attention(*swapped).transpose(1, 2)
    return difference(result, expected)


def difference(result: Any, expected: Any) -> float:  # noqa: ANN401 - tensors
    """Return the largest difference, relative to the largest expected value."""
    return float((result.float().cpu() - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    sys.path.pop(0)  # its own folder, or that of `python -c`: their modules are not torch's
    main(sys.argv[1:])

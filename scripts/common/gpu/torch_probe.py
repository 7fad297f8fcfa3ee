"""Print what torch and xformers are and compute, as one JSON line.

    python torch_probe.py [DTYPE ...]

A script for the WebUI's Python, started by its path or as text (`python -c`): it imports nothing of
this project. For each DTYPE (`float16`, `bfloat16`) it runs matrix products, convolutions and
attention on the GPU, because a library that imports may still carry no code for the device, and
compares each with the same computation on the CPU in single precision. Libraries choose a kernel by
data type and shape, so the shapes are those of drawing.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

Torch = Any  # the module: not installed where this file is type-checked

HEADS = (40, 80, 160, 64, 512)
"""Sizes of attention's heads: SD 1.5 has 8 of them for 320, 640 and 1280 channels, SDXL and SD 2
have heads of 64 channels, the VAE has one of 512, by the WebUI's configs of these models."""

CHANNELS = (320, 512)
"""Of convolutions: the Unet's first level, and the VAE's last."""

VAE_DTYPE = "float32"  # with --no-half-vae, which the worker gives for SDXL
XFORMERS_GPUS = ((6, 0), (9, 0))  # modules/sd_hijack_optimizations.py, SdOptimizationXformers


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
        found = attempt(partial(read_devices, torch))
        no_gpu = found if isinstance(found, str) else ""
        facts["devices"], facts["cuda_error"] = [] if no_gpu else found, no_gpu
        torch.manual_seed(0)
        facts["kernels"] = {"matmul": {}, "convolution": {}, "attention": {}}
        for name, label, compute in list_kernels(torch, dtypes):
            facts["kernels"][name][label] = no_gpu or attempt(compute)
    print(json.dumps(facts))


def list_kernels(
    torch: Torch, dtypes: list[str], device: str = "cuda"
) -> Iterator[tuple[str, str, Callable[[], float]]]:
    """Yield every computation: its name, its data type and shape, and what runs it.

    Args:
        torch: the module.
        dtypes: data types of the Unet.
        device: that computes.
    """
    for dtype in dict.fromkeys([*dtypes, VAE_DTYPE]):
        kind = getattr(torch, dtype)
        is_vae_only = dtype not in dtypes
        if not is_vae_only:
            yield "matmul", dtype, partial(matmul, torch, kind, device)
        for channels in CHANNELS[-1:] if is_vae_only else CHANNELS:
            run = partial(convolution, torch, kind, channels, device)
            yield "convolution", f"{dtype} {channels}", run
        for head in HEADS[-1:] if is_vae_only else HEADS:
            yield "attention", f"{dtype} {head}", partial(attention, torch, kind, head, device)


def read_archs(torch: Torch) -> list[str]:
    """Return what torch carries code for.

    `torch.cuda.get_arch_list()` is empty where there is no GPU; this is what it reads.
    """
    read = getattr(torch._C, "_cuda_getArchFlags", None)
    return (read() or "").split() if read else []


def read_xformers() -> dict[str, str]:
    """Return its version, and torch and CUDA it was built for, from the file of its build."""
    try:
        found = distribution("xformers")
    except PackageNotFoundError:
        return {}
    try:
        build = json.loads(found.read_text("../xformers/cpp_lib.json") or "{}")
        built_for = str(build["version"]["torch"])
        cuda = "{}.{}".format(*divmod(int(build["version"]["cuda"]), 100))  # 1206 for 12.6
    except (OSError, ValueError, KeyError, TypeError):
        built_for = cuda = ""
    return {"xformers": found.version, "xformers_torch": built_for, "xformers_cuda": cuda}


def read_devices(torch: Torch) -> list[dict[str, Any]]:
    """Return the GPUs that torch can use; raise what torch raises where it can use none."""
    torch.cuda.init()
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


def matmul(torch: Torch, dtype: Any, device: str) -> float:  # noqa: ANN401 - a torch.dtype
    """Multiply two matrices, by cuBLAS."""
    square = torch.randn(256, 256)
    there = square.to(device, dtype)
    return difference(there @ there, square @ square)


def convolution(torch: Torch, dtype: Any, channels: int, device: str) -> float:  # noqa: ANN401
    """Convolve an image of a latent's size, by cuDNN."""
    image, weight = torch.randn(1, channels, 32, 32), torch.randn(channels, channels, 3, 3)
    result = torch.nn.functional.conv2d(image.to(device, dtype), weight.to(device, dtype))
    return difference(result, torch.nn.functional.conv2d(image, weight))


def attention(torch: Torch, dtype: Any, head: int, device: str) -> float:  # noqa: ANN401
    """Compute attention to the image itself, and where the VAE is not meant, to a prompt."""
    queries = torch.randn(2, 256, 2, head)
    errors = []
    for keys in (256, 77) if head != HEADS[-1] else (256,):
        parts = [queries, torch.randn(2, keys, 2, head), torch.randn(2, keys, 2, head)]
        result = attend(torch, *(part.to(device, dtype) for part in parts))
        errors.append(difference(result, attend(torch, *parts)))
    return max(errors)


def attend(torch: Torch, *parts: Any) -> Any:  # noqa: ANN401 - tensors
    """Return attention of query, key and value (batch, position, head, channel).

    On a GPU it is computed as the WebUI does: by xformers where it supports the GPU, else by torch,
    which has heads before positions.
    """
    oldest, newest = XFORMERS_GPUS
    if parts[0].is_cuda and oldest <= torch.cuda.get_device_capability() <= newest:
        import xformers.ops  # type: ignore[import-not-found]  # only in images for a GPU

        return xformers.ops.memory_efficient_attention(*parts)
    swapped = (part.transpose(1, 2) for part in parts)
    return torch.nn.functional.scaled_dot_product_attention(*swapped).transpose(1, 2)


def difference(result: Any, expected: Any) -> float:  # noqa: ANN401 - tensors
    """Return the largest difference, relative to the largest expected value."""
    return float((result.float().cpu() - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    sys.path.pop(0)  # its own folder, or that of `python -c`: their modules are not torch's
    main(sys.argv[1:])

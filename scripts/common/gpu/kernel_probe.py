"""Runs in the image's Python and prints what torch sees and computes, as one JSON line.

Sent as text to `python -c`, so it imports nothing of this project. Every result is compared with
the same computation on the CPU in single precision.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import torch  # type: ignore[import-not-found]  # only in the image


def far(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, relative to the largest value wanted."""
    return float((found.float().cpu() - wanted).abs().max() / wanted.abs().max())


def tried(compute: Callable[[], float]) -> float | str:
    """Its difference, or what it raised."""
    try:
        return compute()
    except Exception as error:  # whatever the driver or a library raises is the finding
        return f"{type(error).__name__}: {error}"


torch.manual_seed(0)
square = torch.randn(256, 256)
image, weight = torch.randn(2, 8, 64, 64), torch.randn(8, 8, 3, 3)
query, key, value = (torch.randn(2, 128, 4, 64) for _ in range(3))


def matmul(kind: torch.dtype) -> float:
    """A matrix product, by cuBLAS."""
    there = square.to("cuda", kind)
    return far(there @ there, square @ square)


def convolution(kind: torch.dtype) -> float:
    """A convolution, by cuDNN."""
    found = torch.nn.functional.conv2d(image.to("cuda", kind), weight.to("cuda", kind))
    return far(found, torch.nn.functional.conv2d(image, weight))


def attention(kind: torch.dtype) -> float:
    """Attention by xformers against torch's own; heads and positions lie the other way round."""
    import xformers.ops  # type: ignore[import-not-found]  # only in images for a GPU

    there = (part.to("cuda", kind) for part in (query, key, value))
    found = xformers.ops.memory_efficient_attention(*there)
    turned = (part.transpose(1, 2) for part in (query, key, value))
    wanted = torch.nn.functional.scaled_dot_product_attention(*turned).transpose(1, 2)
    return far(found, wanted)


print(
    json.dumps(
        {
            "devices": [
                {
                    "name": device.name,
                    "memory": device.total_memory,
                    "capability": [device.major, device.minor],
                }
                for device in map(
                    torch.cuda.get_device_properties, range(torch.cuda.device_count())
                )
            ],
            "archs": torch.cuda.get_arch_list(),
            "cudnn": torch.backends.cudnn.version() or 0,
            "errors": {
                f"{compute.__name__} {str(kind).rpartition('.')[2]}": tried(partial(compute, kind))
                for compute in (matmul, convolution, attention)
                for kind in (torch.float16, torch.bfloat16)
            },
        }
    )
)

"""Read the NVIDIA driver's facts through NVML, its management library.

    python -m scripts.common.gpu.nvml

No torch, no CUDA context, a few milliseconds. The library comes with the driver, not with the
image. As a command it prints the facts as one JSON line, so that a driver that does not answer can
be given up, and a container can be asked.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from scripts.common.gpu.gpu_facts import Driver, Gpu


class NvmlError(Exception):
    """There is no driver here, or it does not work."""


def read_driver() -> Driver:
    """Return the driver's version, newest CUDA version, and GPUs.

    Raises:
        NvmlError: there is no driver, it does not work, or it is too old for a function.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
            return Driver(
                version=pynvml.nvmlSystemGetDriverVersion(),
                cuda=(cuda // 1000, cuda % 1000 // 10),
                gpus=tuple(_read_gpu(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())),
            )
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError_LibraryNotFound:
        raise NvmlError("no NVIDIA driver: libnvidia-ml.so.1 cannot be loaded") from None
    except pynvml.NVMLError_FunctionNotFound:
        raise NvmlError("the NVIDIA driver is too old: NVML lacks a function") from None
    except pynvml.NVMLError as error:
        raise NvmlError(f"the NVIDIA driver does not work: {error}") from None


def parse_driver(text: str) -> Driver:
    """Parse what this module prints as a command.

    Raises:
        ValueError: it is something else.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(Driver).validate_json(text)


def main() -> int:
    """Print the facts; without a working driver print why, and return 1."""
    try:
        print(json.dumps(asdict(read_driver())))
    except NvmlError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _read_gpu(pynvml: Any, index: int) -> Gpu:  # noqa: ANN401 - the untyped module
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(device)
    try:
        utilisation = int(pynvml.nvmlDeviceGetUtilizationRates(device).gpu)
    except pynvml.NVMLError:
        utilisation = None  # not offered for slices of a GPU (MIG)
    return Gpu(
        name=pynvml.nvmlDeviceGetName(device),
        capability=pynvml.nvmlDeviceGetCudaComputeCapability(device),
        total=int(memory.total),
        used=int(memory.used),
        utilisation=utilisation,
    )


if __name__ == "__main__":
    sys.exit(main())

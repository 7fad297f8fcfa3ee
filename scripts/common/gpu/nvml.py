"""Asks the NVIDIA driver about its GPUs, through its own library and nothing else.

No torch, no CUDA context, a few milliseconds. Names and structures are those of NVML's reference
(https://docs.nvidia.com/deploy/nvml-api/); the library comes with the driver, not with the image.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from scripts.common.gpu.capability import Capability

LIBRARY: Final = "libnvidia-ml.so.1"
_TEXT: Final = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE; no shorter buffer is needed anywhere here


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver sees it.

    Args:
        name: such as NVIDIA RTX 6000 Ada Generation.
        capability: compute capability.
        total: bytes of memory.
        used: bytes of it in use, by all processes.
        utilisation: percent of the last sample period in which a kernel ran, None where unknown.
    """

    name: str
    capability: Capability
    total: int
    used: int
    utilisation: int | None


@dataclass(frozen=True)
class Driver:
    """What the driver says.

    Args:
        version: its own, such as 570.124.06.
        cuda: the newest CUDA it speaks, (12, 8).
        gpus: those this container may use.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


class NvmlError(Exception):
    """The library is not there, or an answer was not success."""


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


def ask(library: str = LIBRARY) -> Driver:
    """Everything at once.

    Args:
        library: the driver's management library, a name or a path.

    Raises:
        NvmlError: there is no driver here, or it is broken; the reason is for a person.
    """
    with _opened(library) as nvml:
        version, cuda, count = ctypes.create_string_buffer(_TEXT), ctypes.c_int(), ctypes.c_uint()
        _call(nvml, "nvmlSystemGetDriverVersion", version, _TEXT)
        _call(nvml, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        speaks = (cuda.value // 1000, cuda.value % 1000 // 10)
        gpus = tuple(_gpu(nvml, index) for index in range(count.value))
        return Driver(version.value.decode(), speaks, gpus)


def _gpu(nvml: ctypes.CDLL, index: int) -> Gpu:
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(_TEXT), _Memory()
    major, minor, utilisation = ctypes.c_int(), ctypes.c_int(), _Utilisation()
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    _call(nvml, "nvmlDeviceGetName", handle, name, _TEXT)
    _call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    both = ctypes.byref(major), ctypes.byref(minor)
    _call(nvml, "nvmlDeviceGetCudaComputeCapability", handle, *both)
    try:
        _call(nvml, "nvmlDeviceGetUtilizationRates", handle, ctypes.byref(utilisation))
        percent = int(utilisation.gpu)
    except NvmlError:
        percent = None  # not offered for slices of a GPU (MIG)
    capability = (major.value, minor.value)
    return Gpu(name.value.decode(), capability, int(memory.total), int(memory.used), percent)


@contextmanager
def _opened(library: str) -> Iterator[ctypes.CDLL]:
    try:
        nvml = ctypes.CDLL(library)
    except OSError as error:
        raise NvmlError(str(error)) from None
    _call(nvml, "nvmlInit_v2")
    try:
        yield nvml
    finally:
        _call(nvml, "nvmlShutdown")


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    try:
        status = getattr(nvml, function)(*arguments)
    except AttributeError:
        raise NvmlError(f"the driver is too old for {function}") from None
    if status:
        nvml.nvmlErrorString.restype = ctypes.c_char_p
        raise NvmlError(f"{function}: {nvml.nvmlErrorString(status).decode()}")

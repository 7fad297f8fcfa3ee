"""A stand-in for the NVIDIA driver's library, compiled where the tests run.

It answers as for an RTX 6000 Ada. Everything above the driver, nvidia-ml-py included, is real.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

COMPILER = shutil.which("tcc") or shutil.which("cc")

needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler here: tcc is enough")

# NVML's own calling conventions (https://docs.nvidia.com/deploy/nvml-api/); needs no header. These
# are the functions that nvidia-ml-py calls for what `scripts.common.gpu.nvml` reads.
SOURCE = r"""
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int gpu, memory; } utilisation;
static void *card = (void *)0x7fff00001000;
static int text(char *to, unsigned n, const char *from) {
  while (n-- && (*to++ = *from++)); return 0; }
int nvmlInitWithFlags(unsigned flags) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int status) { return "The stand-in is broken"; }
int nvmlSystemGetDriverVersion(char *to, unsigned n) { return text(to, n, "570.124.06"); }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = 12080; return 0; }
#ifndef OLD
int nvmlDeviceGetCount_v2(unsigned *to) { *to = COUNT; return 0; }
#endif
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **to) { *to = card; return 0; }
int nvmlDeviceGetName(void *d, char *to, unsigned n) {
  return d == card ? text(to, n, "NVIDIA RTX 6000 Ada Generation") : 2; }
int nvmlDeviceGetMemoryInfo(void *d, memory *to) {
  to->total = TOTAL; to->used = 614400000ULL; to->free = to->total - to->used; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *x, int *y) {
  *x = MAJOR; *y = MINOR; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, utilisation *to) { to->gpu = 37; return UTILISATION; }
"""


def library(
    folder: Path,
    *,
    capability: tuple[int, int] = (8, 9),
    count: int = 1,
    init: int = 0,
    utilisation: int = 0,
    total: int = 51_527_024_640,
    is_old: bool = False,
) -> Path:
    """Build the library.

    Args:
        folder: where to.
        capability: compute capability of its GPUs.
        count: number of GPUs.
        init: status of the first call; not 0 is a broken driver.
        utilisation: status of the call for it; not 0 is a slice of a GPU.
        total: bytes of memory of each.
        is_old: leave out a function that later drivers have.
    """
    source, built = folder / "nvml.c", folder / "libnvidia-ml.so.1"
    source.write_text(SOURCE)
    values = {"INIT": init, "UTILISATION": utilisation, "COUNT": count, "TOTAL": f"{total}ULL"}
    values |= {"MAJOR": capability[0], "MINOR": capability[1], **({"OLD": 1} if is_old else {})}
    switches = [f"-D{name}={value}" for name, value in values.items()]
    argv = [str(COMPILER), "-shared", "-fPIC", "-nostdlib", *switches, "-o", str(built)]
    subprocess.run([*argv, str(source)], check=True)
    _need_no_executable_stack(built)
    return built


def _need_no_executable_stack(built: Path) -> None:
    """Add the program header that says so (elf(5), PT_GNU_STACK), which tcc leaves out.

    From 2.41 on glibc does not load a library without.
    """
    data = bytearray(built.read_bytes())
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = data[table : table + size * count]
    headers += struct.pack("<IIQQQQQQ", 0x6474E551, 0b110, 0, 0, 0, 0, 0, 16)
    data += bytes(-len(data) % 8)
    struct.pack_into("<Q", data, 32, len(data))
    struct.pack_into("<H", data, 56, count + 1)
    built.write_bytes(data + headers)


def no_driver(folder: Path) -> Path:
    """Write a file in place of the library that cannot be loaded."""
    broken = folder / "libnvidia-ml.so.1"
    broken.write_text("no library")
    return broken

"""Judge GPUs, driver, torch and what was computed. Pure; used by doctor, preflight and smoke.

A cubin (`sm_XY`) runs on devices of its own major version and the same or a later minor one; PTX
(`compute_XY`) is compiled by the driver for that device or any newer one. So an RTX 6000 Ada (8.9)
runs a wheel that lists only `sm_80` and `sm_86`.

Source: https://docs.nvidia.com/cuda/ada-compatibility-guide/ (application compatibility), and for
the suffixes `a` (that device only) and `f` (its family) the CUDA C++ Programming Guide, section
"Compute capabilities", feature sets.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from scripts.common.diagnostics.table import match
from scripts.common.gpu.gpu_facts import Capability, Device, Driver, Kernels, TorchFacts, dotted
from scripts.common.units import size

# Relative to the CPU's single precision: bfloat16 keeps 8 bits, so 2**-8 for each of a few
# roundings; float16 keeps more.
TOLERANCE: Final = 0.03
# The driver reserves a part of the memory that it counts; torch counts what CUDA may use.
MEMORY_TOLERANCE: Final = 0.05
LEFT_OVER: Final = 512 * 2**20
"""Bytes that jobs may leave behind: workspaces of cuDNN and cuBLAS."""
CUDNN_MINIMUM: Final = 9
# Where the WebUI prefers xformers; on newer GPUs it takes torch's own attention. Source:
# SdOptimizationXformers.is_available in its modules/sd_hijack_optimizations.py.
_XFORMERS: Final = ((6, 0), (9, 0))
_ERROR_LENGTH: Final = 300
# Codes that an error of torch may have in place of the check's own.
_KERNEL_CAUSES: Final = ("no-kernel-image", "out-of-memory", "cudnn-no-engine")
_CUDA_CAUSES: Final = ("out-of-memory", "driver-too-old")
_ARCH: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")

Outcome = Literal["passed", "warned", "failed"]


class Judgement(NamedTuple):
    """Outcome of one check, without its name.

    Args:
        outcome: `failed` makes serving pointless, `warned` may do so later.
        evidence: facts that the outcome rests on.
        code: entry of the table of diagnostics; empty when passed.
    """

    outcome: Outcome
    evidence: str
    code: str = ""


def conclude(evidence: str, code: str = "", outcome: Outcome = "failed") -> Judgement:
    """Return a judgement: passed without a code, else the outcome."""
    return Judgement(outcome if code else "passed", evidence, code)


def judge_driver(driver: Driver, cuda: str) -> Judgement:
    """Judge whether a driver supports the CUDA version that torch was built for.

    Within one major version an older driver runs newer code, but compiles no PTX:
    https://docs.nvidia.com/deploy/cuda-compatibility/ (minor version compatibility).
    """
    needed = tuple(int(part) for part in re.findall(r"\d+", cuda)[:2])
    evidence = (
        f"driver {driver.version} supports CUDA {dotted(driver.cuda)}, torch was built for {cuda}"
    )
    if driver.cuda[:1] < needed[:1]:
        return conclude(evidence, "driver-too-old")
    return conclude(evidence, "driver-older" if driver.cuda < needed else "", "warned")


def judge_code(devices: Iterable[Capability], archs: Sequence[str]) -> Judgement:
    """Judge whether every device runs some of the code that torch carries."""
    found = {device: best_arch(device, archs) for device in sorted({*devices})}
    each = ", ".join(f"{dotted(device)} runs {arch or 'none'}" for device, arch in found.items())
    evidence = f"torch carries {' '.join(archs) or 'no GPU code'}: {each}"
    return conclude(evidence, "" if all(found.values()) else "no-kernel-image")


def best_arch(device: Capability, archs: Iterable[str]) -> str:
    """Choose the architecture whose code a device runs; machine code before PTX.

    Args:
        device: its compute capability.
        archs: of a library, as `torch.cuda.get_arch_list()` lists them; unknown ones are ignored.

    Returns:
        The architecture; empty when the device runs none of them.
    """
    usable = [(rank, arch) for arch in archs if (rank := _rank(device, arch))]
    return max(usable)[1] if usable else ""


def _rank(device: Capability, arch: str) -> tuple[bool, Capability] | None:
    """Rank an architecture for a device, higher is better; None when it does not run there."""
    match = _ARCH.fullmatch(arch)
    if not match:
        return None
    kind, suffix, target = match[1], match[4], (int(match[2]), int(match[3]))
    if suffix == "a":
        runs = target == device
    elif kind == "sm" or suffix == "f":
        runs = target[0] == device[0] and target[1] <= device[1]
    else:
        runs = target <= device
    return (kind == "sm", target) if runs else None


def judge_cudnn(number: int) -> Judgement:
    """Judge whether cuDNN is there and new enough."""
    version = cudnn_version(number)
    evidence = f"cuDNN {dotted(version)}" if version else "cuDNN is missing"
    return conclude(evidence, "cudnn-too-old" if version < (CUDNN_MINIMUM,) else "")


def cudnn_version(number: int) -> tuple[int, ...]:
    """Decode cuDNN's version: 90701 is 9.7.1, and before version 9 8902 is 8.9.2; () for 0."""
    if not number:
        return ()
    major = 10_000 if number >= 90_000 else 1_000
    return number // major, number % major // 100, number % 100


def judge_xformers(torch: TorchFacts) -> Judgement:
    """Judge whether xformers is installed, and built for this torch where its build says so.

    Its CUDA may be another minor version than torch's: the libraries of the package need only
    `libcudart.so.12` of CUDA, which torch has loaded, and torch's own `libtorch_cuda.so` and
    `libc10_cuda.so` (`readelf -d _C.so` of 0.0.30). Within one major version code that was built
    with an older minor one runs with a newer one:
    https://docs.nvidia.com/deploy/cuda-compatibility/ (minor version compatibility).
    """
    if not torch.xformers:
        return conclude("xformers is not installed", "xformers-mismatch")
    built_for, installed = public_version(torch.xformers_torch), public_version(torch.version)
    cuda = torch.xformers_cuda
    evidence = (
        f"xformers {torch.xformers} for torch {built_for or 'unknown'}, CUDA {cuda or 'unknown'}; "
        f"torch is {installed}, CUDA {torch.cuda}"
    )
    is_other_cuda = bool(cuda) and cuda.partition(".")[0] != torch.cuda.partition(".")[0]
    is_other = built_for not in ("", installed) or is_other_cuda
    return conclude(evidence, "xformers-mismatch" if is_other else "")


def public_version(version: str) -> str:
    """Return a version without its local part: 2.7.0 for 2.7.0+cu128."""
    return version.partition("+")[0]


def judge_kernels(kernels: Kernels) -> Judgement:
    """Judge whether computations ran on the GPU, with the CPU's results."""
    if not kernels or not all(kernels.values()):
        return conclude("nothing was computed", "kernel-failed")
    errors = {name: error for name, each in kernels.items() if (error := kernel_error(each))}
    if not errors:
        each = ", ".join(f"{name} ({_listed(results)})" for name, results in kernels.items())
        return conclude(f"as on the CPU within {TOLERANCE:.0%}: {each}")
    evidence = "; ".join(f"{name}: {error}" for name, error in errors.items())
    return conclude(evidence, _find_kernel_code(errors.values()))


def _find_kernel_code(errors: Iterable[str]) -> str:
    """Return the code that explains all errors of computations; `no-kernel-image` explains any."""
    codes = {_refine(error, _KERNEL_CAUSES, "kernel-failed") for error in errors}
    if "no-kernel-image" in codes:
        return "no-kernel-image"
    if codes == {"out-of-memory", "cudnn-no-engine"}:
        return "out-of-memory"  # cuDNN finds no engine where the memory has no room for one
    return codes.pop() if len(codes) == 1 else "kernel-failed"


def _refine(error: str, causes: Sequence[str], code: str) -> str:
    """Return the code of an error's text if it is one of some causes, else another code."""
    known = match(error)
    return known.code if known and known.code in causes else code


def kernel_error(results: Mapping[str, float | str]) -> str:
    """Return what is wrong with a computation's results, by data type; empty when nothing is."""
    # Not `>`, so that NaN is wrong, too.
    return _listed({k: v for k, v in results.items() if isinstance(v, str) or not v <= TOLERANCE})


def _listed(results: Mapping[str, float | str]) -> str:
    """Format results on one line; those that are alike stand together."""
    labels: dict[str, list[str]] = {}
    for label, value in results.items():
        if isinstance(value, str):
            text = " ".join(value.split())[:_ERROR_LENGTH]
        else:
            text = f"{value:.2g} off"
        labels.setdefault(text, []).append(label)
    return ", ".join(f"{' and '.join(each)} {text}" for text, each in labels.items())


def judge_devices(driver: Sequence[Device], torch: Sequence[Device]) -> Judgement:
    """Judge whether driver and torch see the same GPUs."""
    difference = _difference(driver, torch)
    evidence = difference or "; ".join(map(str, driver))
    return conclude(evidence, "gpus-differ" if difference else "")


def judge_use(driver: Sequence[Device], torch: TorchFacts) -> Judgement:
    """Judge whether torch can use the GPUs that the driver lists.

    That torch sees fewer of them may be meant so (CUDA_VISIBLE_DEVICES), and is a warning.
    """
    if driver and not torch.devices:
        error = " ".join(torch.cuda_error.split())[:_ERROR_LENGTH] or "no reason given"
        evidence = f"the driver lists {len(driver)} GPUs, torch can use none: {error}"
        return conclude(evidence, _refine(error, _CUDA_CAUSES, "gpus-differ"))
    found = judge_devices(driver, torch.devices)
    return found._replace(outcome="warned") if found.code else found


def _difference(driver: Sequence[Device], torch: Sequence[Device]) -> str:
    if not driver:
        return "the driver lists no GPU"
    if len(driver) != len(torch):
        return f"the driver lists {len(driver)} GPUs, torch {len(torch)}"
    # The driver counts by bus, CUDA by speed.
    for one, other in zip(sorted(driver, key=_order), sorted(torch, key=_order), strict=True):
        if (one.name, one.capability) != (other.name, other.capability):
            return f"the driver lists {one}, torch {other}"
        if abs(one.memory - other.memory) > MEMORY_TOLERANCE * one.memory:
            return f"{one.name}: the driver counts {one.memory} bytes, torch {other.memory}"
    return ""


def _order(device: Device) -> tuple[str, Capability, int]:
    return device.name, device.capability, device.memory


def expected_attention(device: Device) -> str:
    """Return what the worker's flags make the WebUI choose on a device: xformers or torch's sdp."""
    oldest, newest = _XFORMERS
    return "xformers" if oldest <= device.capability <= newest else "sdp"


def judge_memory_after_jobs(before: int, after: int) -> Judgement:
    """Judge whether the GPU memory in use has returned to what it was before the jobs, in bytes."""
    evidence = f"{size(before)} before the jobs, {size(after)} after"
    return conclude(evidence, "gpu-memory-kept" if after - before > LEFT_OVER else "")

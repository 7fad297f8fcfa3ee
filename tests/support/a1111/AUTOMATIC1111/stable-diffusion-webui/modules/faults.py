"""What can go wrong on request: `STANDIN_FAULT` names one of these."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from pathlib import Path

FAULTS = {
    "crash-at-start": "ends with a traceback before the port opens",
    "hang-at-start": "never opens the port",
    "no-model": "the checkpoint does not load; everything but pictures still answers",
    "crash-while-loading": "the process dies while the checkpoint loads",
    "crash-mid-job": "aborts halfway through a picture",
    "killed-mid-job": "is killed halfway through a picture, as by the out-of-memory killer",
    "hang": "a picture never ends",
    "stubborn": "ignores SIGTERM, and a picture never ends",
    "silent": "a picture never ends, and /sdapi/v1/progress does not answer any more",
    "garbage": "answers pictures with something that is no JSON",
    "no-images": "answers pictures with an empty list",
    "flat": "every picture has one colour",
    "truncated-png": "every picture is cut in half",
    "wrong-size": "every picture is 8 pixels narrower than asked",
    "cuda-error": "fails with a CUDA error, and with the same in every job that follows",
    "out-of-memory": "fails as when GPU memory does not suffice",
}

CUDA_ERROR = (
    "CUDA error: an illegal memory access was encountered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
    "below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
)
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 47.50 GiB of "
    "which 1.20 GiB is free."
)


class OutOfMemoryError(RuntimeError):
    """Named as torch names it: the WebUI's answer shows the name."""


def _chosen() -> str:
    """The fault of this process, empty when it is healthy."""
    fault = os.environ.get("STANDIN_FAULT", "")
    if fault and fault not in FAULTS:
        sys.exit(f"no such STANDIN_FAULT: {fault} - one of {', '.join(FAULTS)}")
    once = os.environ.get("STANDIN_ONCE")
    if not fault or not once:
        return fault
    if Path(once).exists():
        return ""
    Path(once).touch()
    return fault


_FAULT = _chosen()
_AFTER = int(os.environ.get("STANDIN_AFTER", "0"))
_jobs = itertools.count()
_acts = threading.Event()


def is_stubborn() -> bool:
    """Whether SIGTERM is to be ignored."""
    return _FAULT == "stubborn"


def at_start() -> None:
    """Before anything slow is imported."""
    if _FAULT == "crash-at-start":
        raise RuntimeError("the stand-in was asked to crash at start")


def before_listening() -> None:
    """When everything is imported."""
    if _FAULT == "hang-at-start":
        threading.Event().wait()


def while_loading() -> None:
    """In the thread that loads the checkpoint."""
    if _FAULT == "no-model":
        raise RuntimeError("the stand-in was asked not to load its checkpoint")
    if _FAULT == "crash-while-loading":
        os.abort()


def of_next_job() -> str:
    """Counts a request for pictures; the fault that acts on it, empty for none."""
    if next(_jobs) < _AFTER:
        return ""
    _acts.set()
    return _FAULT


def at_progress() -> None:
    """When somebody asks how far it is."""
    if _FAULT == "silent" and _acts.is_set():
        threading.Event().wait()


def mid_job(fault: str) -> None:
    """Halfway through a picture."""
    if fault in ("hang", "stubborn", "silent"):
        threading.Event().wait()
    if fault == "crash-mid-job":
        os.abort()
    if fault == "killed-mid-job":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "cuda-error":
        raise RuntimeError(CUDA_ERROR)
    if fault == "out-of-memory":
        raise OutOfMemoryError(OUT_OF_MEMORY)

"""Asks the NVIDIA driver of this machine what it is, through its own command `nvidia-smi`."""

from __future__ import annotations

import re
import subprocess

from scripts.common.gpu.capability import capability
from scripts.host.doctor.doctor_facts import Driver, Gpu

_TIMEOUT = 30.0  # seconds; waking sleeping GPUs takes some
_FIELDS = "name,driver_version,compute_cap"


def ask() -> tuple[Driver | None, str]:
    """The driver, or None and why there is none."""
    rows, trouble = _smi(f"--query-gpu={_FIELDS}", "--format=csv,noheader")
    if trouble:
        return None, trouble
    about, _ = _smi("-q")
    cuda = re.search(r"CUDA Version\s*:\s*(\d+\.\d+)", about)
    return parsed(rows, cuda[1] if cuda else "")


def parsed(rows: str, cuda: str) -> tuple[Driver | None, str]:
    """What the rows of `nvidia-smi --query-gpu` say."""
    try:
        cells = [row.rsplit(",", 2) for row in rows.splitlines() if row.strip()]
        gpus = tuple(Gpu(name.strip(), capability(cap)) for name, _, cap in cells)
    except ValueError:
        return None, f"nvidia-smi answers what is not understood: {rows.splitlines()[0]}"
    return (Driver(cells[0][1].strip(), cuda, gpus), "") if gpus else (None, "it lists no GPU")


def _smi(*words: str) -> tuple[str, str]:
    """Its output, and what went wrong."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *words], capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
    except FileNotFoundError:
        return "", "there is no NVIDIA driver"
    except subprocess.TimeoutExpired:
        return "", "the NVIDIA driver does not answer"
    if done.returncode != 0:
        told = (done.stdout.strip() or done.stderr.strip() or "no reason given").splitlines()
        return "", f"nvidia-smi: {told[0]}"
    return done.stdout, ""

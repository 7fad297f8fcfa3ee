"""A worker whose handler runs in the environment of RunPod's SDK, beside the stand-in WebUI."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.host.config.load import ROOT
from tests.support.worker import Worker

WEBUI = ROOT / "tests/support/a1111/AUTOMATIC1111/stable-diffusion-webui"
JOB = {"prompt": "a lighthouse", "seed": 1, "steps": 2, "width": 64, "height": 64}


@contextmanager
def serverless(tmp_path: Path, python: Path, **environment: str) -> Iterator[Worker]:
    """A whole worker in serverless mode, its handler on the real SDK."""
    checkpoint(tmp_path / "model.safetensors", "a")
    webui = tmp_path / "a1111"
    shutil.copytree(WEBUI, webui)
    worker = Worker(
        tmp_path,
        **{
            "WORKER_MODE": "serverless",
            "WEBUI_DIR": str(webui),
            "WEBUI_PYTHON": str(python),
            "STANDIN_TORCH": "0",
            **environment,
        },
        python=str(python),
    )
    try:
        yield worker
    finally:
        worker.stop()


def checkpoint(path: Path, text: str) -> Path:
    """A small file that the stand-in takes for a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({text: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    return path

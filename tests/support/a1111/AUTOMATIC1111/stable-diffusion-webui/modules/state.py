"""The one WebUI of this process: its options, its model, and the job that it is busy with."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modules import faults
from modules.engines import Engine, Picture


@dataclass
class Job:
    """How far the running job is."""

    name: str = ""
    number: int = 0
    count: int = 0
    step: int = 0
    steps: int = 0
    interrupted: bool = False
    fault: str = ""
    stamp: str = "0"


@dataclass
class WebUI:
    """One job at a time, one model, options that last until the process ends or are saved."""

    flags: argparse.Namespace
    engine: Engine
    options: dict[str, object] = field(default_factory=dict)
    loaded: bool = False
    job: Job = field(default_factory=Job)
    model_lock: threading.Lock = field(default_factory=threading.Lock)
    queue_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # Set before anything is loaded, as upstream does: it proves nothing.
        self.options = {
            "sd_model_checkpoint": self.checkpoint.name,
            "sd_checkpoint_hash": None,
            "sd_vae": "Automatic",
            "CLIP_stop_at_last_layers": 1,
            "samples_format": "png",
            "eta_noise_seed_delta": 0,
        }
        saved = Path(self.flags.ui_settings_file)
        if saved.exists():
            self.options.update(json.loads(saved.read_text()))

    @property
    def checkpoint(self) -> Path:
        """The file that `--ckpt` names."""
        return Path(self.flags.ckpt or Path(self.flags.models_dir) / "model.safetensors")

    def load(self) -> None:
        """Load the checkpoint; a failure is printed and leaves the server without a model."""
        with self.model_lock:
            started = time.monotonic()
            print(f"Loading weights [None] from {self.checkpoint}", flush=True)
            time.sleep(float(os.environ.get("STANDIN_LOAD_SECONDS", "0")))
            try:
                faults.while_loading()
                self.engine.load(self.checkpoint)
            except Exception:  # upstream survives whatever it is
                traceback.print_exc()
                print("\nStable diffusion model failed to load", file=sys.stderr, flush=True)
                return
            self.loaded = True
            print(f"Model loaded in {time.monotonic() - started:.1f}s.", flush=True)

    def set_options(self, changes: dict[str, object]) -> None:
        """Change options; one that does not exist is ignored, a model that does not is an error."""
        model = changes.get("sd_model_checkpoint")
        if model and model not in (self.checkpoint.name, self.checkpoint.stem):
            raise RuntimeError(f"model {model!r} not found")
        self.options.update({name: to for name, to in changes.items() if name in self.options})

    def save_options(self) -> None:
        """Write the options where the next start reads them."""
        Path(self.flags.ui_settings_file).write_text(json.dumps(self.options, indent=4))

    @contextmanager
    def _busy(self, job: Job) -> Iterator[Job]:
        with self.queue_lock:
            self.job = job
            try:
                yield job
            finally:
                self.job = Job(stamp=job.stamp)

    def draw(self, name: str, pictures: list[Picture], fault: str) -> list[bytes]:
        """Draw one after the other, waiting for the model and for the job before.

        Args:
            name: of the job, as /sdapi/v1/progress shows it.
            pictures: at least one.
            fault: what goes wrong meanwhile, empty for nothing.

        Raises:
            AttributeError: the model did not load; upstream's message, which says nothing about it.
        """
        stamp = time.strftime("%Y%m%d%H%M%S")
        asked = Job(name, count=len(pictures), steps=pictures[0].steps, stamp=stamp, fault=fault)
        with self._busy(asked) as job:
            with self.model_lock:
                if not self.loaded:
                    raise AttributeError("'NoneType' object has no attribute 'lowvram'")
            drawn = []
            for number, picture in enumerate(pictures):
                job.number = number
                drawn.append(self.engine.draw(picture, self._step))
                if job.interrupted:
                    break
            return drawn

    def _step(self, number: int) -> None:
        self.job.step = number + 1
        if number == self.job.steps // 2:
            faults.mid_job(self.job.fault)
        pause = float(os.environ.get("STANDIN_STEP_SECONDS", "0"))
        if pause and not self.job.interrupted:
            time.sleep(pause)


def seed_or_random(seed: int) -> int:
    """-1 means any."""
    return random.randrange(1 << 32) if seed == -1 else seed  # noqa: S311 - a picture, not a secret

"""The one WebUI of this process: its options, its model, and the job that it is busy with."""

from __future__ import annotations

import argparse
import copy
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

from modules import extensions, faults, listing, scripts, shared
from modules.engines import Engine, Picture

DEFAULTS: dict[str, object] = {
    "sd_model_checkpoint": None,
    "interrogate_return_ranks": False,
    "interrogate_deepbooru_score_threshold": 0.5,
    "deepbooru_sort_alpha": True,
    "sd_checkpoint_hash": "",
    "sd_checkpoints_limit": 1,
    "sd_vae": "Automatic",
    "CLIP_stop_at_last_layers": 1,
    "face_restoration": False,
    "face_restoration_model": "CodeFormer",
    "samples_format": "png",
    "eta_noise_seed_delta": 0,
    "tiling": False,
    "disabled_extensions": [],
    "disable_all_extensions": "none",
}
"""Some of upstream's options. Whatever the settings file holds is kept, as there."""


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


@dataclass(frozen=True)
class Lists:
    """Model files as they were found when the WebUI last looked."""

    vaes: dict[str, Path]
    loras: dict[str, Path]
    embeddings: dict[str, Path]
    hypernetworks: dict[str, Path]
    upscalers: dict[str, Path | None]


@dataclass
class WebUI:
    """One job at a time, one model, options that last until the process ends or are saved."""

    flags: argparse.Namespace
    engine: Engine
    options: dict[str, object] = field(default_factory=dict)
    checkpoints: dict[str, Path] = field(default_factory=dict)
    loaded: dict[Path, Engine] = field(default_factory=dict)  # the one in use comes last
    job: Job = field(default_factory=Job)
    model_lock: threading.Lock = field(default_factory=threading.Lock)
    queue_lock: threading.Lock = field(default_factory=threading.Lock)
    runners: dict[str, scripts.ScriptRunner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options = dict(DEFAULTS)
        saved = Path(self.flags.ui_settings_file)
        if saved.exists():
            self.options.update(json.loads(saved.read_text()))
        self.list_models()
        # Set before anything is loaded, as upstream does: it proves nothing.
        named = Path(self.flags.ckpt or "")
        titles = [title for title, path in self.checkpoints.items() if path == named]
        self.options["sd_model_checkpoint"] = titles[0] if titles else named.name

    def load_extensions(self) -> None:
        """Load the extensions' scripts; before the checkpoint, as upstream does."""
        shared.opts.data = self.options
        extensions.list_extensions()
        kinds = scripts.load_scripts()
        self.runners = {
            name: scripts.ScriptRunner(kinds, name == "img2img") for name in ("txt2img", "img2img")
        }

    def list_models(self) -> None:
        """Look for model files."""
        self.checkpoints = listing.checkpoints(self.flags)
        self.lists = Lists(
            listing.vaes(self.flags),
            listing.loras(self.flags),
            listing.embeddings(self.flags),
            listing.hypernetworks(self.flags),
            listing.upscalers(self.flags),
        )

    def find_checkpoint(self, name: object) -> Path | None:
        """The file of a title, or of its name without folder and suffix."""
        for title, path in self.checkpoints.items():
            if name in (title, path.stem, title.replace("/", "_").rpartition(".")[0]):
                return path
        return None

    @property
    def checkpoint(self) -> Path:
        """The file that the options name; the first listed one where that is not there."""
        found = self.find_checkpoint(self.options["sd_model_checkpoint"])
        return found or next(iter(self.checkpoints.values()), Path(self.flags.ckpt or "none"))

    def load(self) -> None:
        """Load the checkpoint; a failure is printed and leaves the server without a model."""
        try:
            self._load(self.checkpoint)
        except Exception:  # upstream survives whatever it is
            traceback.print_exc()
            print("\nStable diffusion model failed to load", file=sys.stderr, flush=True)

    def _load(self, checkpoint: Path) -> Engine:
        """Load a checkpoint if it is not, and unload those over the limit."""
        with self.model_lock:
            if checkpoint in self.loaded:
                self.loaded[checkpoint] = self.loaded.pop(checkpoint)
                return self.loaded[checkpoint]
            started = time.monotonic()
            print(f"Loading weights [None] from {checkpoint}", flush=True)
            time.sleep(float(os.environ.get("STANDIN_LOAD_SECONDS", "0")))
            faults.while_loading()
            engine = copy.copy(self.engine)
            engine.load(checkpoint)
            self.loaded[checkpoint] = engine
            while len(self.loaded) > int(str(self.options["sd_checkpoints_limit"])):
                del self.loaded[next(iter(self.loaded))]
            print(f"Model loaded in {time.monotonic() - started:.1f}s.", flush=True)
            return engine

    def set_options(self, changes: dict[str, object]) -> None:
        """Change options; one that does not exist is ignored, a model that does not is an error."""
        model = changes.get("sd_model_checkpoint")
        if model and not self.find_checkpoint(model):
            raise RuntimeError(f"model {model!r} not found")
        self.options.update({name: to for name, to in changes.items() if name in self.options})

    def override_options(self, changes: dict[str, object]) -> None:
        """Change options for one job; a model that does not exist is silently ignored."""
        model = changes.get("sd_model_checkpoint")
        if model and not self.find_checkpoint(model):
            changes = {key: value for key, value in changes.items() if key != "sd_model_checkpoint"}
        self.set_options(changes)

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
        checkpoint = self.checkpoint
        with self._busy(asked) as job:
            with self.model_lock:  # waits for the load at start
                if not self.loaded:
                    raise AttributeError("'NoneType' object has no attribute 'lowvram'")
            engine = self._load(checkpoint)
            drawn = []
            for number, picture in enumerate(pictures):
                job.number = number
                drawn.append(engine.draw(picture, self._step))
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

"""How a build grows with the models that are baked in."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from benchmarks.answers import Answer
from benchmarks.building import ours, seconds
from benchmarks.yard import Yard
from scripts.host.console import note

GIGABYTES = (0, 2, 8)
FEWER = (0, 1, 2)  # where the disk does not hold the largest, three times over, and some
BLOCK = 1 << 24


def models(yard: Yard, rounds: int) -> list[Answer]:
    """Seconds of a build with N GB of further models: when they are new, and again."""
    del rounds
    ours(yard)
    config, file = yard.config.read_text(), yard.folder / "big.dat"
    answers: list[Answer] = []
    none = 0.0
    for count in sizes(yard.folder):
        try:
            yard.config.write_text(with_model(config, file, count))
            new = seconds(lambda: ours(yard))
            again = [seconds(lambda: ours(yard)) for _ in range(3)]
        finally:
            yard.config.write_text(config)
            file.unlink(missing_ok=True)
            shutil.rmtree(yard.folder / "store", ignore_errors=True)
        note(f"   models, {count} GB: {new:.1f} s, again {min(again):.2f} s")
        answers.append(Answer("models", f"{count} GB, new", "s", (new,)))
        if count == 0:
            none = new
            answers.append(Answer("models", "none, again", "s", tuple(again)))
            continue
        size = "the most" if len(answers) > 3 else "some"
        answers.append(Answer("models", f"{size}, again", "s", tuple(again)))
        answers.append(Answer("models", f"{size}, a GB over none", "s", ((new - none) / count,)))
    return answers


def sizes(folder: Path) -> tuple[int, ...]:
    """How many GB to build with: each lies in the store, in BuildKit's copy and in the image."""
    fits = shutil.disk_usage(folder).free > 4 * max(GIGABYTES) * 10**9
    return GIGABYTES if fits else FEWER


def with_model(config: str, file: Path, gigabytes: int) -> str:
    """A config with one more model of that size, which is made here."""
    tree: dict[str, Any] = yaml.safe_load(config)
    if gigabytes:
        model = {"name": "big", "source": {"url": file.as_uri()}, "path": "/big.dat"}
        tree["models"].append({**model, "sha256": make_file(file, gigabytes * 10**9)})
    return yaml.safe_dump(tree, sort_keys=False)


def make_file(path: Path, length: int) -> str:
    """A file that does not compress; its SHA-256."""
    block, digest = os.urandom(BLOCK), hashlib.sha256()
    with path.open("wb") as stream:
        for start in range(0, length, BLOCK):
            part = block[: min(BLOCK, length - start)]
            stream.write(part)
            digest.update(part)
    return digest.hexdigest()

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
BLOCK = 1 << 24


def models(yard: Yard, rounds: int) -> list[Answer]:
    """Seconds of a build with N GB of further models: when they are new, and again."""
    del rounds
    ours(yard)
    usual_config = yard.config.read_text()
    answers: list[Answer] = []
    first = 0.0
    for count in GIGABYTES:
        file = yard.folder / "big.dat"
        try:
            yard.config.write_text(with_model(usual_config, file, count))
            new = seconds(lambda: ours(yard))
            again = [seconds(lambda: ours(yard)) for _ in range(3)]
        finally:
            yard.config.write_text(usual_config)
            file.unlink(missing_ok=True)
        first = first or new
        answers.append(Answer("models", f"{count} GB, new", "s", (new,)))
        answers.append(Answer("models", f"{count} GB, again", "s", tuple(again)))
        if count:
            answers.append(Answer("models", f"{count} GB, over none", "s", (new - first,)))
        note(f"   models, {count} GB: {new:.1f} s, again {min(again):.2f} s")
        shutil.rmtree(yard.folder / "store" / "objects", ignore_errors=True)
    return answers


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

"""Bytes that a registry receives: after small changes, and for variants that share layers."""

from __future__ import annotations

import time
from pathlib import Path

import yaml

from benchmarks.answers import Answer
from benchmarks.building import (
    OURS,
    PINNED,
    PINS,
    USUALLY,
    edited,
    ours,
    repin,
    usual,
    warm,
)
from benchmarks.yard import Yard
from scripts.common.fetch.hashing import sha256_of
from scripts.host.build.inputs import CHECKPOINT_PATH
from scripts.host.console import note
from tests.support.inputs import make_checkpoint
from tests.support.registry import Registry, layers_of, registry

VARIANTS = 5
PORT = 18084  # always the same: the engine remembers what a registry has by its address


def changes(yard: Yard, rounds: int) -> list[Answer]:
    """What is uploaded after a script edit and after a pin change."""
    del rounds
    warm(yard)
    with registry(yard.folder / "registry", port=PORT) as blobs:
        place = Place(yard, blobs)
        place.push(OURS, "ours:before")
        before = layers_of(blobs.address, "ours", "before")
        edited(yard, 0)
        ours(yard)
        script = place.push(OURS, "ours:script")
        repin(yard, PINS[-1])
        ours(yard)
        pin = place.push(OURS, "ours:pin")
        after = layers_of(blobs.address, "ours", "pin")
        new = [size for digest, size in after.items() if digest not in before]
        place.push(USUALLY, "usual:before")
        usual(edited(yard, 1))
        usual_script = place.push(USUALLY, "usual:script")
        usual(yard, f"--build-arg=PINS={PINNED}=={PINS[-1]}")
        usual_pin = place.push(USUALLY, "usual:pin")
    found = {
        "ours, script edit": script,
        "ours, pin change": pin,
        "ours, the changed layer": max(new),
        "usual, script edit": usual_script,
        "usual, pin change": usual_pin,
    }
    return [Answer("push", what, "bytes", (value,)) for what, value in found.items()]


def variants(yard: Yard, rounds: int) -> list[Answer]:
    """One image, then four more that differ in their checkpoint only."""
    del rounds
    config, file = yard.config.read_text(), yard.folder / "one.safetensors"
    sent: list[int] = []
    took: list[float] = []
    layers: list[dict[str, int]] = []
    with registry(yard.folder / "registry", port=PORT) as blobs:
        place = Place(yard, blobs)
        try:
            for number in range(VARIANTS):
                yard.config.write_text(with_checkpoint(config, file, number))
                ours(yard)
                name = f"variant-{number}"
                began = time.monotonic()
                sent.append(place.push(OURS, f"variants:{name}"))
                took.append(time.monotonic() - began)
                layers.append(layers_of(blobs.address, "variants", name))
        finally:
            yard.config.write_text(config)
    own = sum(
        size for each in layers[1:] for digest, size in each.items() if digest not in layers[0]
    )
    return [
        Answer("variants", "four more", "bytes", (sum(sent[1:]),)),
        Answer("variants", "their own layers", "bytes", (own,)),
        Answer("variants", "push of one more", "s", tuple(took[1:])),
    ]


def with_checkpoint(config: str, file: Path, number: int) -> str:
    """A config with another small checkpoint."""
    make_checkpoint(file, seed=1000 + number)
    tree = yaml.safe_load(config)
    others = [model for model in tree["models"] if model["path"] != CHECKPOINT_PATH]
    model = {"name": f"checkpoint-{number}", "source": {"url": file.as_uri()}}
    model |= {"path": CHECKPOINT_PATH, "sha256": sha256_of(file)}
    return yaml.safe_dump({**tree, "models": [model, *others]}, sort_keys=False)


class Place:
    """A registry, and how much reaches it."""

    def __init__(self, yard: Yard, blobs: Registry) -> None:
        self._yard, self._blobs = yard, blobs

    def push(self, tag: str, name: str) -> int:
        """Push an image; the bytes that the registry holds more than before."""
        before = stored(self._yard.folder / "registry")
        client = self._yard.engine()
        reference = f"{self._blobs.address}/{name}"
        client.images.get(tag).tag(reference)
        for line in client.images.push(reference, stream=True, decode=True):
            if "error" in line:
                raise SystemExit(f"{name}: {line['error']}")
        added = stored(self._yard.folder / "registry") - before
        note(f"   push, {name}: {added} bytes")
        return added


def stored(root: Path) -> int:
    """Bytes of all blobs of a registry."""
    return sum(path.stat().st_size for path in root.glob("**/blobs/sha256/*/*/data"))

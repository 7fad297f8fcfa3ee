"""Measure how builds grow with models, and bytes pushed after changes and for further variants."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.build_changes import (
    BASELINE_TAG,
    OURS_TAG,
    PINNED,
    PINS,
    build_baseline_image,
    build_both,
    build_image,
    edit_scripts,
    repin,
)
from benchmarks.compare import Measurement, seconds
from benchmarks.environment import BuildEnvironment, make_file
from scripts.common.fetch.hashing import sha256_of
from scripts.host.config.model_place import CHECKPOINT_PATH
from scripts.host.console import note
from tests.support.inputs import make_checkpoint
from tests.support.registry import Registry, layers_of, registry

GIGABYTES = (0, 2, 8)
FEWER_GIGABYTES = (0, 1, 2)  # where the disk does not hold the largest, three times over
VARIANTS = 5
PORT = 18084  # always the same: the engine remembers a registry's layers by its address


def models(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Build with N GB of further models: when they are new, and again."""
    del rounds
    build_image(environment)
    config, file = environment.config.read_text(), environment.folder / "big.dat"
    found: list[Measurement] = []
    none = 0.0
    for count in _gigabytes(environment.folder):
        try:
            environment.config.write_text(_with_model(config, file, count))
            new = seconds(lambda: build_image(environment))
            again = [seconds(lambda: build_image(environment)) for _ in range(3)]
        finally:
            environment.config.write_text(config)
            file.unlink(missing_ok=True)
            shutil.rmtree(environment.folder / "store", ignore_errors=True)
        note(f"   models, {count} GB: {new:.1f} s, again {min(again):.2f} s")
        found.append(Measurement("models", f"{count} GB, new", "s", (new,)))
        if count == 0:
            none = new
            found.append(Measurement("models", "none, again", "s", tuple(again)))
            continue
        size = "the most" if len(found) > 3 else "some"
        per_gigabyte = (new - none) / count
        found.append(Measurement("models", f"{size}, again", "s", tuple(again)))
        found.append(Measurement("models", f"{size}, a GB over none", "s", (per_gigabyte,)))
    return found


def _gigabytes(folder: Path) -> tuple[int, ...]:
    """Choose sizes that fit: each lies in the store, in BuildKit's copy and in the image."""
    fits = shutil.disk_usage(folder).free > 4 * max(GIGABYTES) * 10**9
    return GIGABYTES if fits else FEWER_GIGABYTES


def _with_model(config: str, file: Path, gigabytes: int) -> str:
    """Add a model of that size, which is written to `file`, to a config."""
    tree: dict[str, Any] = yaml.safe_load(config)
    if gigabytes:
        model = {"name": "big", "source": {"url": file.as_uri()}, "path": "/big.dat"}
        tree["models"].append({**model, "sha256": make_file(file, gigabytes * 10**9)})
    return yaml.safe_dump(tree, sort_keys=False)


def pushes(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Count bytes uploaded after a script edit and after a pin change."""
    del rounds
    build_both(environment)
    with registry(environment.folder / "registry", port=PORT) as blobs:
        _push(environment, blobs, OURS_TAG, "ours:before")
        before = layers_of(blobs.address, "ours", "before")
        edit_scripts(environment, 0)
        build_image(environment)
        script = _push(environment, blobs, OURS_TAG, "ours:script")
        repin(environment, PINS[-1])
        build_image(environment)
        pin = _push(environment, blobs, OURS_TAG, "ours:pin")
        after = layers_of(blobs.address, "ours", "pin")
        new = [size for digest, size in after.items() if digest not in before]
        _push(environment, blobs, BASELINE_TAG, "baseline:before")
        edit_scripts(environment, 1)
        build_baseline_image(environment)
        baseline_script = _push(environment, blobs, BASELINE_TAG, "baseline:script")
        build_baseline_image(environment, f"--build-arg=PINS={PINNED}=={PINS[-1]}")
        baseline_pin = _push(environment, blobs, BASELINE_TAG, "baseline:pin")
    found = {
        "ours, script edit": script,
        "ours, pin change": pin,
        "ours, the changed layer": max(new),
        "baseline, script edit": baseline_script,
        "baseline, pin change": baseline_pin,
    }
    return [Measurement("push", name, "bytes", (count,)) for name, count in found.items()]


def variants(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Push one image, then four more that differ in their checkpoint only."""
    del rounds
    config = environment.config.read_text()
    file = environment.folder / "one.safetensors"
    sent: list[int] = []
    took: list[float] = []
    layers: list[dict[str, int]] = []
    with registry(environment.folder / "registry", port=PORT) as blobs:
        try:
            for number in range(VARIANTS):
                environment.config.write_text(_with_checkpoint(config, file, number))
                build_image(environment)
                name = f"variant-{number}"
                began = time.monotonic()
                sent.append(_push(environment, blobs, OURS_TAG, f"variants:{name}"))
                took.append(time.monotonic() - began)
                layers.append(layers_of(blobs.address, "variants", name))
        finally:
            environment.config.write_text(config)
    own = sum(
        size for each in layers[1:] for digest, size in each.items() if digest not in layers[0]
    )
    return [
        Measurement("variants", "four more", "bytes", (sum(sent[1:]),)),
        Measurement("variants", "their own layers", "bytes", (own,)),
        Measurement("variants", "push of one more", "s", tuple(took[1:])),
    ]


def _with_checkpoint(config: str, file: Path, number: int) -> str:
    """Replace a config's checkpoint with another small one."""
    make_checkpoint(file, seed=1000 + number)
    tree = yaml.safe_load(config)
    others = [model for model in tree["models"] if model.get("path") != CHECKPOINT_PATH]
    model = {"name": f"checkpoint-{number}", "source": {"url": file.as_uri()}}
    model |= {"path": CHECKPOINT_PATH, "sha256": sha256_of(file)}
    return yaml.safe_dump({**tree, "models": [model, *others]}, sort_keys=False)


def _push(environment: BuildEnvironment, blobs: Registry, tag: str, name: str) -> int:
    """Push an image; return the bytes that the registry holds more than before."""
    root = environment.folder / "registry"
    before = _stored_bytes(root)
    client = environment.engine()
    reference = f"{blobs.address}/{name}"
    client.images.get(tag).tag(reference)
    for line in client.images.push(reference, stream=True, decode=True):
        if "error" in line:
            raise SystemExit(f"{name}: {line['error']}")
    added = _stored_bytes(root) - before
    note(f"   push, {name}: {added} bytes")
    return added


def _stored_bytes(root: Path) -> int:
    """Sum the blobs of a registry."""
    return sum(path.stat().st_size for path in root.glob("**/blobs/sha256/*/*/data"))

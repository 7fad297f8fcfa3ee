"""Make a small checkout with a config of its own, for tests of models."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import yaml

from scripts.common.fetch.spec import RetryPolicy, VerifiedFile
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.models.artifacts import image_artifacts
from scripts.host.models.hub_client import Hub
from scripts.host.models.models_display import Display
from scripts.host.models.prefetch import PrefetchOptions, prefetch
from scripts.host.models.store import Store, StoredFiles

IMPATIENT = RetryPolicy(attempts=2, pause=0.01, max_pause=1.0, stall_timeout=2.0)


class Warnings(Display):
    """A display that keeps the warnings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.texts.append(text)


def safetensors_bytes(size: int = 1_500_000, seed: int = 1) -> bytes:
    """Return a valid safetensors file with one tensor of that many bytes."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"t": tensor}).encode()
    body = random.Random(seed).randbytes(size)  # noqa: S311 - content, not a secret
    return struct.pack("<Q", len(header)) + header + body


def sha(content: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(content).hexdigest()


def make_checkout(root: Path, *models: dict[str, Any], **more: Any) -> Path:
    """Make a folder with the project's own config, its models replaced."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "config.yaml", root)
    local = {"models": list(models), "store": {"path": str(root / "models")}, **more}
    (root / "config.local.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")
    return root


def loaded_from(root: Path, *define: str) -> LoadedConfig:
    """Load its config."""
    return load(root=root, define=define)


def store_of(root: Path) -> Store:
    """Return its store."""
    return Store(loaded_from(root).store)


def prefetch_models(
    root: Path,
    *names: str,
    define: tuple[str, ...] = (),
    display: Display | None = None,
    policy: RetryPolicy | None = IMPATIENT,
    **flags: bool,
) -> StoredFiles:
    """Prefetch its models, by default with little patience; policy None: as the config says."""
    loaded = loaded_from(root, *define)
    hub, concurrency = Hub.from_config(loaded), loaded.config.store.concurrency
    options = PrefetchOptions(
        root, hub, concurrency, display=display or Display(), policy=policy, **flags
    )
    return prefetch(image_artifacts(loaded, names), Store(loaded.store), options)


def prefetched(root: Path, *names: str, **options: Any) -> list[VerifiedFile]:
    """Prefetch its models and return their files."""
    return list(prefetch_models(root, *names, **options).values())


def from_url(url: str, **changes: Any) -> dict[str, Any]:
    """Return a config entry of a model behind a URL."""
    return {"name": "u", "source": {"url": url}, "path": "/model.safetensors", **changes}


def local(folder: Path, name: str, content: bytes, **changes: Any) -> dict[str, Any]:
    """Write a local file; return a config entry of a model from it."""
    file = folder / f"{name}.safetensors"
    file.write_bytes(content)
    model = {"name": name, "source": {"url": file.as_uri()}, "path": f"/{name}.safetensors"}
    return {**model, "sha256": sha(content), **changes}


def forget(root: Path, name: str) -> None:
    """Remove a model from the checkout's local config."""
    path = root / "config.local.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["models"] = [model for model in tree["models"] if model["name"] != name]
    path.write_text(yaml.safe_dump(tree))

"""Mount models as RunPod does that the image leaves to its cache."""

from __future__ import annotations

from typing import Final

from scripts.host.build.inputs import resolve
from scripts.host.config.load import LoadedConfig
from scripts.host.models.hub_client import Hub
from scripts.host.models.prefetch import PrefetchOptions, prefetch
from scripts.host.models.store import Store

_CACHE: Final = "/runpod-volume/huggingface-cache/hub"


def cached_volumes(loaded: LoadedConfig) -> dict[str, dict[str, str]]:
    """Return mounts of the models that the platform caches, fetched into the store if missing.

    The layout is that of the Hub's client, where RunPod has it.
    """
    artifacts = resolve(loaded).cached_artifacts
    if not artifacts:
        return {}
    store = Store(loaded.store)
    limit = loaded.config.store.concurrency
    options = PrefetchOptions(loaded.root, Hub.from_config(loaded), limit)
    files = prefetch(artifacts, store, options, store.find_stored(artifacts))
    return {
        str(file.path): {
            "bind": f"{_CACHE}/{each.reference.cache_folder}/snapshots/{each.revision}/{each.file}",
            "mode": "ro",
        }
        for each, file in files.items()
    }

"""Compute the ID of a build: one hash over everything that decides the image's bytes.

A smoke run inside a container knows neither the image's ID nor its digest; the build's ID, an ENV
and a label of the image, ties its report to the image. Equal IDs mean equal bytes only where every
input is pinned.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scripts.host.build.smoke_expectations import make_expectations

if TYPE_CHECKING:
    from scripts.host.build.inputs import BuildInputs
    from scripts.host.models.artifacts import Artifact

COPIED: Final = ("Dockerfile", "scripts/common", "scripts/container", "scripts/image")
"""Files and folders of the checkout that the Dockerfile reads, besides the locks."""
LOCKS: Final = ("requirements/tools.txt", "requirements/runpod.txt")
"""Locks that every variant reads, besides its own."""

# Where the same bytes come from, and the bases, which are identified without their mirror.
_PLACES: Final = frozenset(
    (
        *("BASE_DOWNLOAD", "BASE_RUNTIME", "GITHUB", "HF_ENDPOINT"),
        *("PYTHON_INDEX", "PYTORCH_INDEX", "APT_MIRROR", "APK_MIRROR"),
    )
)


def compute_build_id(inputs: "BuildInputs") -> str:
    """Return the ID, 64 hex digits, without tags, mirrors and local paths."""
    arguments = {k: v for k, v in inputs.arguments.items() if k not in _PLACES}
    facts = {
        "revision": inputs.revision,
        "created": inputs.created,
        "arguments": arguments,
        "labels": dict(inputs.labels),
        "bases": [(each.name, each.digest) for each in (inputs.download_base, inputs.runtime_base)],
        "sources": [asdict(each) for each in inputs.sources],
        "extensions": [
            (each.extension.model_dump(mode="json"), each.commit) for each in inputs.extensions
        ],
        "smoke": make_expectations(inputs).model_dump(mode="json"),
        "models": [
            _identify(each)
            for each in (*inputs.artifacts, *inputs.volume_artifacts, *inputs.cached_artifacts)
        ],
        "files": dict(_hash_files(inputs.root, (*COPIED, *LOCKS, arguments["REQUIREMENTS"]))),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _identify(artifact: "Artifact") -> dict[str, Any]:
    """Return what decides a model file and its place: its content where known, else its source."""
    model = artifact.model
    return {
        "path": (model.placement, model.target, artifact.file),
        "revision": artifact.revision,  # a folder of the Hub's cache has its name
        "content": artifact.spec.sha256 or artifact.repo,
        "size": artifact.spec.size,
    }


def _hash_files(root: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield path, and hash of the content, of files and of those in folders.

    Whether a file is executable counts; its owner, its other rights and its times are the
    checkout's own, which the Dockerfile replaces.
    """
    for name in names:
        place = root / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                mode = "x" if path.stat().st_mode & 0o100 else "-"
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                yield str(path.relative_to(root)), f"{mode}{digest}"

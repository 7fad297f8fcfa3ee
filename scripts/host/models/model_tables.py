"""Describe model files as tables for people and JSON for machines. Light to import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scripts.common.units import size
from scripts.host.console import table, terminal_width

if TYPE_CHECKING:
    from scripts.common.fetch.spec import VerifiedFile
    from scripts.host.config.load import LoadedConfig
    from scripts.host.models.artifacts import Artifact
    from scripts.host.models.store import Store
    from scripts.host.models.store_maintenance import CheckedObject, Unused


def name_facts(artifact: Artifact) -> dict[str, str]:
    """Return the JSON fields that name a file."""
    return {"model": artifact.model.name, "file": artifact.file}


def file_facts(artifact: Artifact, file: VerifiedFile) -> dict[str, Any]:
    """Return the JSON fields of a verified file."""
    return {
        **name_facts(artifact),
        "path": str(file.path),
        "source": artifact.source,
        "revision": artifact.revision,
        "sha256": file.sha256,
        "size": file.size,
        "state": file.state,
        "took": round(file.seconds, 3),
        "moved": file.received,
    }


def prefetch_table(facts: Sequence[Mapping[str, Any]], width: int = 0) -> str:
    """Return the table that ends a prefetch, one row for the `file_facts` of each file."""
    several = Counter(each["model"] for each in facts)
    rows = []
    for each in facts:
        rate = each["moved"] and each["took"] and each["moved"] / each["took"] / 1e6
        rows.append(
            (
                each["model"] + (f"/{each['file']}" if several[each["model"]] > 1 else ""),
                size(each["size"]),
                each["source"],
                each["revision"][:8] or "-",
                each["sha256"][:8],
                each["state"],
                f"{each['took']:.1f}",
                f"{rate:.1f}" if rate else "-",
            )
        )
    header = ("model", "size", "source", "revision", "sha256", "state", "seconds", "MB/s")
    return table(header, rows, right=(1, 6, 7), width=width)


def models_table(loaded: LoadedConfig, store: Store) -> str:
    """Return one row a model of the config, and whether it is in the store."""
    from scripts.host.models.artifacts import artifacts_of

    rows = []
    for model in loaded.config.models:
        artifacts = artifacts_of(loaded, [model])
        sizes = [each.spec.size for each in artifacts]
        total = size(sum(each or 0 for each in sizes)) if all(sizes) else "-"
        pinned = all(each.is_pinned for each in artifacts)
        here = len(store.find_stored(artifacts)) == len(artifacts)
        row = (model.name, str(len(artifacts)), total, artifacts[0].source, model.placement)
        rows.append((*row, model.path, "yes" if pinned else "no", "yes" if here else "no"))
    header = ("model", "files", "size", "source", "placement", "path", "pinned", "here")
    return table(header, rows, right=(2,), width=terminal_width())


def objects_table(checked: Iterable[CheckedObject]) -> str:
    """Return one row an object of the store, and whether it is whole."""
    rows = [
        (each.path.name[:16], " ".join(each.models), size(each.size), each.damage or "whole")
        for each in checked
    ]
    header = ("object", "models", "size", "state")
    return table(header, rows, right=(2,), width=terminal_width())


def unused_table(unused: Iterable[Unused], store: Store) -> str:
    """Return one row a file that may be deleted, and why."""
    rows = [
        (str(each.path.relative_to(store.root)), size(each.size), each.reason) for each in unused
    ]
    return table(("path", "size", "why"), rows, right=(1,))

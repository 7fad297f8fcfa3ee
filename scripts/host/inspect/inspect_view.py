"""Show an inspected image, and the difference between two, as tables."""

import re
from collections import Counter
from typing import Final

from scripts.common.units import size
from scripts.host.config.schema import Smoke
from scripts.host.console import table
from scripts.host.inspect.structure import Inspection, check_structure

# What BuildKit adds to a RUN step: build arguments and the shell.
_RUN_PREFIX: Final = re.compile(r"^RUN (?:\|\d+ .*? )?/bin/(?:ba)?sh (?:-o pipefail )?-e?c ")


def format_inspection(image: Inspection, smoke: Smoke) -> str:
    """Return layers, folders and checks, one table each."""
    kinds = Counter(package.kind for package in image.manifest.packages)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    base = [["", size(image.base_size), "", "the base image"]] if image.base_size else []
    layers = [
        [
            str(number),
            size(layer.size),
            size(layer.hidden) if layer.hidden else "",
            _RUN_PREFIX.sub("RUN ", layer.instruction).removesuffix(" # buildkit")[:80],
        ]
        for number, layer in enumerate(image.layers, 1)
    ]
    folders = [[size(count), path] for path, count in image.manifest.folders.items()]
    checks = [
        [code, "failed" if lines else "passed", line]
        for code, lines in check_structure(image, smoke).items()
        for line in lines or [""]
    ]
    return "\n\n".join(
        [
            f"{image.image} ({image.image_id[:19]}): {size(image.size)}, "
            f"{size(image.own_size)} over base and models, {size(image.wasted_bytes)} wasted\n"
            f"packages: {counts}",
            table(["layer", "size", "wasted", "made by"], [*base, *layers], right=[0, 1, 2]),
            table(["size", "folder"], folders, right=[0]),
            table(["check", "outcome", "found"], checks),
        ]
    )


def format_difference(old: Inspection, new: Inspection) -> str:
    """Return what changed from one image to the other: sizes, top folders and packages."""
    before, after = old.manifest, new.manifest
    folders = [
        [path, _signed(after.sizes.get(path, 0) - before.sizes.get(path, 0)), f"{files:+d}"]
        for path in sorted({*before.files, *after.files} - {"/"})
        for files in (after.files.get(path, 0) - before.files.get(path, 0),)
        if files or before.sizes.get(path) != after.sizes.get(path)
    ]
    old_versions, new_versions = before.versions(), after.versions()
    packages = [
        [name, old_versions.get(name, "-"), new_versions.get(name, "-")]
        for name in sorted({*old_versions, *new_versions})
        if old_versions.get(name) != new_versions.get(name)
    ]
    tables = [
        f"{_signed(new.size - old.size)} against {old.image}",
        table(["folder", "size", "files"], folders, right=[1, 2]) if folders else "",
        table(["package", "before", "after"], packages) if packages else "",
    ]
    return "\n\n".join(filter(None, tables))


def _signed(change: int) -> str:
    return f"{'+' if change >= 0 else '-'}{size(abs(change))}"

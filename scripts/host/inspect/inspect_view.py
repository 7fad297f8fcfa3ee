"""An inspection, and the difference between two, as a person sees them."""

from __future__ import annotations

import re
from typing import Final

from scripts.host.config.schema import Smoke
from scripts.host.console import size, table
from scripts.host.inspect.image import Inspection, difference
from scripts.host.inspect.rules import CHECKS

_ADDED: Final = re.compile(r"^RUN (?:\|\d+ .*? )?/bin/(?:ba)?sh (?:-o pipefail )?-e?c ")


def shown(image: Inspection, smoke: Smoke) -> str:
    """Layers, folders, wasted files and checks, one table each."""
    counts = ", ".join(f"{count} {kind}" for kind, count in image.manifest.counts().items())
    head = (
        f"{image.image} ({image.image_id[:19]}): {size(image.size)}, "
        f"{size(image.own_size)} over base and models, {size(image.wasted_bytes)} wasted\n"
        f"packages: {counts}"
    )
    tables = [head, _layers(image), _folders(image), _wasted(image), _checks(image, smoke)]
    return "\n\n".join(filter(None, tables))


def _layers(image: Inspection) -> str:
    base = [["", size(image.base_size), "the base image"]] if image.base_size else []
    own = [
        [str(number), size(layer.size), _as_written(layer.instruction)[:80]]
        for number, layer in enumerate(image.layers, 1)
    ]
    return table(["layer", "size", "made by"], [*base, *own], right=[0, 1])


def _as_written(instruction: str) -> str:
    """A step without what BuildKit adds to it: build arguments, the shell, a remark."""
    return _ADDED.sub("RUN ", instruction).removesuffix(" # buildkit")


def _folders(image: Inspection) -> str:
    rows = [[size(count), path] for path, count in image.manifest.folders.items()]
    return table(["size", "folder"], rows, right=[0])


def _wasted(image: Inspection) -> str:
    rows = [[size(one.size), str(one.layer), str(one.hidden_by), one.path] for one in image.wasted]
    header = ["wasted", "in layer", "hidden by", "file"]
    return table(header, rows, right=[0, 1, 2]) if rows else ""


def _checks(image: Inspection, smoke: Smoke) -> str:
    rows = [
        [code, "failed" if lines else "passed", line]
        for code, check in CHECKS.items()
        for lines in (check(image, smoke),)
        for line in lines or [""]
    ]
    return table(["check", "outcome", "found"], rows)


def shown_difference(old: Inspection, new: Inspection) -> str:
    """What changed from one image to the other: sizes, top folders and packages."""
    change = new.size - old.size
    head = f"{_signed(change)} against {old.image}"
    folders = [
        [path, _signed(_change(path, old.manifest.sizes, new.manifest.sizes)), f"{files:+d}"]
        for path in sorted({*old.manifest.files, *new.manifest.files} - {"/"})
        for files in (_change(path, old.manifest.files, new.manifest.files),)
        if files or old.manifest.sizes.get(path) != new.manifest.sizes.get(path)
    ]
    packages = [
        [name, before or "-", after or "-"]
        for name, before, after in difference(old.manifest.versions(), new.manifest.versions())
    ]
    tables = [
        table(["folder", "size", "files"], folders, right=[1, 2]) if folders else "",
        table(["package", "before", "after"], packages) if packages else "",
    ]
    return "\n\n".join(filter(None, [head, *tables]))


def _change(path: str, old: dict[str, int], new: dict[str, int]) -> int:
    return new.get(path, 0) - old.get(path, 0)


def _signed(change: int) -> str:
    return f"{'+' if change >= 0 else '-'}{size(abs(change))}"

"""Describe the packages of the Python that runs this, which is the WebUI's, as JSON.

    python -m scripts.container.webui.extensions.package_report image
    python -m scripts.container.webui.extensions.package_report requests LOG OWN_FOLDER [FOLDER...]

The worker's own Python sees neither those packages nor `packaging`, which compares versions.
"""

import json
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.common.extensions.installed_packages import (
    applies,
    find_unsatisfied,
    installed_packages,
)
from scripts.common.extensions.pip_requests import read_recorded_calls


def describe_image() -> dict[str, Any]:
    """Return this Python's version, its folder of packages, and all packages by name."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "folder": sysconfig.get_path("purelib"),
        "packages": {name: each.version for name, each in installed_packages().items()},
    }


def compare_requests(log: Path, own_folder: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Return what a recorded installer asked for, and what of it the WebUI would not find.

    Args:
        log: calls of pip, as `pip_recorder` writes them.
        own_folder: packages that it installed.
        folders: packages of all extensions, in the order of the WebUI's path, where they come
            after the image's.
    """
    requests = read_recorded_calls(log.read_text(encoding="utf-8") if log.exists() else "")
    own = installed_packages([str(own_folder)])
    for folder in folders:
        site.addsitedir(str(folder))
    installed = installed_packages()
    unsatisfied = [str(each) for each in find_unsatisfied(requests, installed)]
    return {
        "unsatisfied": [*unsatisfied, *_find_displaced(own, installed)],
        "packages": {name: each.version for name, each in own.items()},
    }


def _find_displaced(
    own: Mapping[str, Distribution], installed: Mapping[str, Distribution]
) -> Iterator[str]:
    """Yield what an installed package requires, and had, where another version comes first."""
    for each in own.values():
        for text in each.requires or ():
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            if name not in own or not applies(needed):
                continue
            version = installed[name].version
            if not needed.specifier.contains(version, prereleases=True):
                yield f"{each.name} requires {text}, but {name} {version} comes first"


def main(arguments: Sequence[str]) -> int:
    """Print one report."""
    if arguments[0] == "image":
        report = describe_image()
    else:
        log, own_folder, *folders = map(Path, arguments[1:])
        report = compare_requests(log, own_folder, folders or [own_folder])
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Write and read what the lock of Python packages says about extensions.

It says for which extensions it was made, and what each asked for, in comments; `install: none`
where the installer was not run:

    # extension adetailer 36189cbea735b85fd01e98ac42002b8ce6f0e41d
    #   install.py: ultralytics>=8.3.75
    #   override: protobuf>=4.25.3,<5

The build compares the requests with what it installed. Needs `packaging`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from scripts.common.extensions.pip_requests import PipRequest

_HEADING = re.compile(r"# extension (\S+) ([0-9a-f]{40})")
_ROW = re.compile(r"#   (\S+)( without dependencies)?: (.+)")
_OVERRIDE, _INSTALL = "override", "install"


@dataclass(frozen=True)
class ExtensionRequests:
    """The Python packages that an extension needs.

    Args:
        name: its folder.
        commit: 40 hex digits.
        requests: what it asks for.
        overrides: requirements of its config that replace what any package asks for.
        install: of its config; with `none` its installer is not run.
    """

    name: str
    commit: str
    requests: tuple[PipRequest, ...]
    overrides: tuple[str, ...] = ()
    install: Literal["auto", "none"] = "auto"


def as_comments(extensions: Iterable[ExtensionRequests]) -> str:
    """Return the lines of a lock for some extensions; nothing for none."""
    lines: list[str] = []
    for each in extensions:
        lines.append(f"# extension {each.name} {each.commit}")
        if each.install == "none":
            lines.append(f"#   {_INSTALL}: none")
        for request in each.requests:
            bare = "" if request.with_dependencies else " without dependencies"
            lines.append(f"#   {request.source}{bare}: {request.text}")
        lines += [f"#   {_OVERRIDE}: {override}" for override in each.overrides]
    return "".join(f"{line}\n" for line in lines)


def read_locked_requests(lock: str) -> tuple[ExtensionRequests, ...]:
    """Return the extensions that a lock was made for, from its text."""
    found: list[ExtensionRequests] = []
    for line in lock.splitlines():
        if heading := _HEADING.fullmatch(line):
            found.append(ExtensionRequests(heading[1], heading[2], ()))
        elif found and (row := _ROW.fullmatch(line)):
            last = found[-1]
            if row[1] == _INSTALL:
                found[-1] = replace(last, install="none")
            elif row[1] == _OVERRIDE:
                found[-1] = replace(last, overrides=(*last.overrides, row[3]))
            else:
                request = PipRequest(row[3], row[1], not row[2])
                found[-1] = replace(last, requests=(*last.requests, request))
    return tuple(found)

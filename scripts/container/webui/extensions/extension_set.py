"""Describe the extensions that the WebUI starts with, and the environment that they need."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from scripts.container.log import log
from scripts.container.settings import Settings
from scripts.container.webui.extensions.extension_faults import ExtensionFault

CODE: Final = "extension-broken"
"""Code of all failures of extensions in the diagnostics table."""

PACKAGES: Final = "EXTENSION_PACKAGES"
"""Variable with the folders of packages; `launcher.py` puts them on the path, after the image's."""

HABITS: Final[Mapping[str, tuple[str, str]]] = {
    "PYTHONFAULTHANDLER": ("1", "a crash in native code names the extension that called it"),
    "U2NET_HOME": (
        "{data_dir}/models/u2net",
        "rembg's route would look below the home folder, its script looks here",
    ),
    "YOLO_AUTOINSTALL": ("false", "ultralytics would run pip in the middle of a job"),
    "YOLO_OFFLINE": ("true", "ultralytics would look a host name up when it is imported"),
}
"""Value and reason of each variable that is set for habits of known extensions, if it is not set.

Sources: rembg 2.0.50 (`sessions/base.py`), ultralytics 8.4.118 (`utils/__init__.py`).
"""


@dataclass(frozen=True)
class ExtensionSet:
    """Extensions in the data folder.

    Args:
        names: of all.
        broken: why one does not work, or not all of it, by name.
        left_out: those of them that the WebUI is told not to load.
        packages: folders of packages, in the order of the path.
        in_place: whether some are a user's own, whose files may belong to another account.
    """

    names: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    packages: tuple[Path, ...] = ()
    in_place: bool = False

    @property
    def states(self) -> dict[str, str]:
        """Return why an extension is broken, by name; empty for one that works."""
        return {name: self.broken.get(name, "") for name in self.names}

    def with_broken(self, fault: ExtensionFault, *, is_left_out: bool = False) -> "ExtensionSet":
        """Return the set with one more that is broken, left out or not."""
        name = fault.extension
        known = self.broken.get(name, "")
        reason = "; ".join(dict.fromkeys(filter(None, (*known.split("; "), fault.reason))))
        left_out = self.left_out | {name} if is_left_out else self.left_out
        return replace(self, broken={**self.broken, name: reason}, left_out=left_out)

    def environment(self, settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
        """Return the WebUI's environment with what extensions need.

        Args:
            settings: of the worker.
            env: the WebUI's environment without extensions.
        """
        if not self.names:
            return dict(env)
        habits = {
            name: value.format(data_dir=settings.data_dir) for name, (value, _) in HABITS.items()
        }
        data_dir = shlex.join(["--data-dir", str(settings.data_dir)])
        own = {
            # What an extension starts itself does not see the WebUI's command line.
            "COMMANDLINE_ARGS": f"{env.get('COMMANDLINE_ARGS', '')} {data_dir}".strip(),
            PACKAGES: os.pathsep.join(map(str, self.packages)),
        }
        if self.left_out:
            # A flag that belongs to an extension which is left out would end the WebUI.
            own["IGNORE_CMD_ARGS_ERRORS"] = "1"
        if self.in_place:
            own |= _trust_repositories(env)
        return {**habits, **env, **own}


def log_broken(fault: ExtensionFault, effect: str, *, level: str = "error") -> None:
    """Log that an extension is broken, and what comes of it."""
    name, reason = fault.extension, fault.reason
    log(CODE, level=level, extension=name, reason=reason, effect=effect, code=CODE)


def _trust_repositories(env: Mapping[str, str]) -> dict[str, str]:
    """Let git read repositories of other accounts, or the WebUI does not list such extensions."""
    count = int(env.get("GIT_CONFIG_COUNT") or 0)
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "safe.directory",
        f"GIT_CONFIG_VALUE_{count}": "*",
    }

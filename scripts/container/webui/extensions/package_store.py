"""Keep the packages of extensions on the volume, where all workers share them.

Each extension has an environment of its own, so that one which fails takes no other down. Its name
contains a key of all that decides what is in it. It is made under another name and renamed when its
record is written, so whatever ends a worker, no part of one is ever used. A lock lets one worker
install while the others wait; without locks the first one to be done counts.
"""

import ctypes
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from glob import escape
from pathlib import Path
from typing import Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.files import NO_LOCKS, open_locked
from scripts.common.models.folder_listing import describe_error
from scripts.container.webui.extensions.extension_copies import copy_changes, list_states
from scripts.container.webui.extensions.extension_identity import describe_source
from scripts.container.webui.extensions.find_extensions import Extension
from scripts.container.webui.extensions.installer import ImagePackages, Installer

_RECORD: Final = "installed.json"
_ADDED: Final = "added"
_PARTIAL: Final = ".partial"
_FORMAT: Final = 1  # of an environment; another one makes all workers install anew
_KEY_LENGTH: Final = 24
_DAY: Final = 86_400.0  # seconds; a conflict is believed that long, since the index may change
_UNUSED: Final = 90 * _DAY  # after which an older environment of the extension is deleted


@dataclass(frozen=True)
class Record:
    """Result of an installation, as it lies beside the packages.

    Args:
        problem: why the extension cannot be used; empty if it can.
        packages: version by name of what was installed.
        seconds: that it took.
    """

    problem: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class PackageStore:
    """The folders of all environments.

    Args:
        folders: the first one is filled, and made with the first installation; others are read.
        installer: runs installers.
        image: packages of the image.
        device: what installers may choose packages by, such as `cuda`.
    """

    def __init__(
        self, folders: Sequence[Path], installer: Installer, image: ImagePackages, device: str
    ) -> None:
        self._folder, *self._others = folders
        self._installer, self._image, self._device = installer, image, device

    def environment(self, extension: Extension) -> Path:
        """Return the folder of an extension's environment, there or not.

        Raises:
            OSError: the extension, or a file of constraints, cannot be read.
        """
        image, further = self._image, self._installer.further_constraints
        parts = (_FORMAT, image.python, image.constraints, further, self._device)
        text = json.dumps([*parts, extension.name, describe_source(extension.path)])
        key = hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
        places = [each / f"{extension.name}-{key}" for each in (self._folder, *self._others)]
        return next((place for place in places if (place / _RECORD).is_file()), places[0])

    def own_place(self, environment: Path) -> Path:
        """Return where an environment is installed, if it is not there."""
        return self._folder / environment.name

    def packages(self, environment: Path) -> Path:
        """Return the folder of packages in an environment."""
        return self._image.site_folder(environment)

    def read(self, environment: Path) -> Record | None:
        """Return the record of an environment and mark it as used; None where there is none."""
        path = environment / _RECORD
        try:
            record = Record(**json.loads(path.read_text(encoding="utf-8")))
            if record.problem and time.time() - path.stat().st_mtime > _DAY:
                return None
        except (OSError, ValueError, TypeError):
            return None
        if not record.problem:
            with suppress(OSError):
                os.utime(path)
        return record

    def additions(self, environment: Path) -> Path | None:
        """Return the folder of files that the installer wrote into the extension's own."""
        added = environment / _ADDED
        return added if added.is_dir() else None

    def install(
        self, extension: Extension, folder: Path, on_wait: Callable[[], None]
    ) -> tuple[Record, bool]:
        """Install what an extension needs, unless another worker has done so meanwhile.

        Args:
            extension: the extension.
            folder: its folder in the data folder, in which its installer runs.
            on_wait: called once if another worker is installing.

        Returns:
            The record, and whether this worker made it.
        """
        try:
            environment = self.own_place(self.environment(extension))
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked(environment, on_wait) as is_alone:
                if record := self.read(environment):
                    return record, False
                self._delete_leftovers(extension, environment, is_alone)
                return self._install(extension, folder, environment)
        except UserError as error:
            return Record(error.message), True
        except OSError as error:
            return Record(f"its packages cannot be installed: {describe_error(error)}"), True

    def _install(
        self, extension: Extension, folder: Path, environment: Path
    ) -> tuple[Record, bool]:
        started = time.monotonic()
        partial = environment.with_name(
            f"{environment.name}.{socket.gethostname()}-{os.getpid()}{_PARTIAL}"
        )
        try:
            before = list_states(folder)
            outcome = self._installer.install(folder, partial, self._image)
            seconds = time.monotonic() - started
            record = Record(outcome.problem, outcome.packages, round(seconds, 3))
            if outcome.problem:
                if not outcome.is_lasting:
                    return record, True
                shutil.rmtree(partial)
                partial.mkdir()
            elif extension.origin != "data-folder":
                copy_changes(folder, partial / _ADDED, before)
            # Without a parent to be made: what is gone with a volume must not come back empty.
            (partial / _RECORD).write_text(json.dumps(asdict(record)), encoding="utf-8")
            _flush(partial)
            if not outcome.problem:
                self.packages(partial).stat()
            if others := self.read(environment):  # without locks another worker may be faster
                return others, False
            shutil.rmtree(environment, ignore_errors=True)  # a conflict of another day
            partial.rename(environment)
            return record, True
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _locked(self, environment: Path, on_wait: Callable[[], None]) -> Iterator[bool]:
        """Keep other workers from installing the same environment, as far as there are locks.

        Yields:
            Whether no other worker installs it; without locks that is unknown.

        Raises:
            UserError: another worker is not done in time.
            OSError: the lock cannot be opened.
        """
        has_waited = False

        def wait() -> None:
            nonlocal has_waited
            if not has_waited:
                on_wait()
            has_waited = True
            if active_time() > self._installer.deadline:
                raise UserError("another worker did not end its installation in time")

        try:
            lock = open_locked(self._folder / f".{environment.name}.lock", wait)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield False
            return
        try:
            yield True
        finally:
            os.close(lock)

    def _delete_leftovers(self, extension: Extension, environment: Path, is_alone: bool) -> None:
        """Delete what killed workers left, and environments that no worker has used for long."""
        now = time.time()
        for path in self._folder.glob(f"{escape(extension.name)}-*"):
            with suppress(OSError):
                if path.name.endswith(_PARTIAL):
                    is_dead = is_alone and path.name.startswith(f"{environment.name}.")
                    is_stale = is_dead or now - path.stat().st_mtime > _DAY
                else:
                    is_stale = now - (path / _RECORD).stat().st_mtime > _UNUSED
                if is_stale:
                    shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Make all that was written to a folder's file system durable, packages included."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)

"""Keep the models that jobs have downloaded: verified, within a size, shared by many workers.

Each lies under its SHA-256 in a folder of the network volume. A running job holds a shared lock on
its models; the least recently used without a lock are deleted to make room for others. A stamp
beside each (`stamps.py`) is touched at every use.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import partial_path
from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy, VerifiedFile
from scripts.common.fetch.stamps import stamp_path
from scripts.common.files import exclusive_lock, shared_lock
from scripts.container.log import log

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there, and with those of the whole file if they are known."""

_SUFFIX: Final = ".safetensors"
_STEP: Final = 256_000_000  # bytes that are reserved at once where a server tells no length
_LONG_UNUSED: Final = 86_400.0  # seconds; longer than a job takes, where there are no locks
_RESUMABLE: Final = ("download-broken", "job-timeout")  # what arrived is of use to the next job
_POLICY: Final = RetryPolicy(attempts=4, max_pause=30.0, public_only=True)
_HINTS: Final = {
    "disk-full": "free space on the volume, or lower JOB_DOWNLOADS_MAX",
    "download-broken": "send the job again: what arrived is kept and resumed",
    "download-refused": "check the address; no token is sent along",
    "pickle-refused": "use a .safetensors file",
    "wrong-bytes": "check the job's sha256; if it is right, distrust the source",
    "wrong-kind": "name a LoRA in loras, and a checkpoint in checkpoint",
}


@dataclass(frozen=True)
class _Entry:
    """A file in the folder: a model, or an unfinished download.

    Args:
        path: the file.
        size: bytes.
        used: when it was last used, seconds since the epoch by the file system's clock.
    """

    path: Path
    size: int
    used: float


class DownloadedModels:
    """The folder of downloaded models.

    Args:
        folder: the folder; made with the first download.
        limit: bytes that it may hold.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    @contextmanager
    def held(
        self, spec: ArtifactSpec, key: str, *, deadline: float, on_progress: Progress
    ) -> Iterator[VerifiedFile]:
        """Download a model unless it is there, and keep it from being deleted in the block.

        Args:
            spec: the model.
            key: that it is kept under.
            deadline: active time at which it must be there.
            on_progress: called while it is downloaded.

        Raises:
            UserError: it is not what was expected, does not come in time, or finds no room; then
                nothing of it is left, except the beginning of a download that can be resumed.
        """
        path = self._folder / f"{key}{_SUFFIX}"
        with ExitStack() as stack:
            while True:
                file = self._fetch(spec, path, deadline, on_progress)
                # Another worker may have deleted it before it was locked.
                with suppress(FileNotFoundError):
                    if stack.enter_context(shared_lock(path)):
                        break
            with suppress(OSError):
                os.utime(stamp_path(path))
            yield file

    def _fetch(
        self, spec: ArtifactSpec, path: Path, deadline: float, on_progress: Progress
    ) -> VerifiedFile:
        from scripts.common.fetch.transfer import fetch_verified  # TLS, for such jobs only

        reserved = 0

        def watch(state: str, done: int, total: int | None, _detail: str = "") -> None:
            nonlocal reserved
            if active_time() > deadline:
                message = f"{spec.name} did not arrive within the job's time"
                hint = "send the job again: what arrived is kept and resumed"
                raise UserError(message, hint=hint, code="job-timeout")
            if state == "fetching":
                if max(done, total or 0) > reserved:
                    reserved = total or done + _STEP
                    self._make_room(reserved, path)
                on_progress(done, total)

        while True:
            try:
                return fetch_verified(spec, path, policy=_POLICY, on_progress=watch)
            except UserError as error:
                if error.code == "disk-full" and self._delete_oldest(path):
                    continue  # with the bytes that arrived
                if error.code == "model-damaged" and self._delete(path):
                    continue
                if error.code not in _RESUMABLE:
                    self._delete(partial_path(path))
                hint = _HINTS.get(error.code, error.hint)
                raise UserError(
                    error.message, location=error.location, hint=hint, code=error.code
                ) from None
            except OSError as error:
                reason = f"{spec.name} cannot be kept: {error.strerror}"
                hint = "check that the network volume is mounted and writable"
                location = str(self._folder)
                raise UserError(
                    reason, location=location, hint=hint, code="store-unwritable"
                ) from None

    def _make_room(self, incoming: int, own: Path) -> None:
        """Delete least recently used files until `incoming` bytes fit.

        Raises:
            UserError: those in use leave too little room (code `downloads-full`).
        """
        entries = self._list(own)
        excess = sum(entry.size for entry in entries) + incoming - self._limit
        for entry in entries:
            if excess <= 0:
                return
            if self._delete(entry.path):
                excess -= entry.size
        if excess > 0:
            raise UserError(code="downloads-full")

    def _delete_oldest(self, own: Path) -> bool:
        """Delete the least recently used file; return whether there was one."""
        return any(self._delete(entry.path) for entry in self._list(own))

    def _list(self, own: Path) -> list[_Entry]:
        """Return the files in the folder, least recently used first, without one's own."""
        entries = []
        for path in self._folder.iterdir():
            if path.name.startswith(own.name) or not path.name.endswith((_SUFFIX, ".partial")):
                continue
            with suppress(OSError):  # deleted meanwhile
                stat = path.stat()
                entries.append(_Entry(path, stat.st_size, _find_last_use(path)))
        return sorted(entries, key=lambda entry: entry.used)

    def _delete(self, path: Path) -> bool:
        """Delete a model or an unfinished download that no worker uses; return whether it is gone.

        Where the file system has no locks, what was used lately counts as in use.
        """
        try:
            is_old = time.time() - _find_last_use(path) > _LONG_UNUSED
            with exclusive_lock(path, without_locks=is_old) as is_free:
                if is_free:
                    size = path.stat().st_size
                    path.unlink()
                    log("job-model-deleted", file=path.name, bytes=size)
                    stamp_path(path).unlink(missing_ok=True)
                    path.with_name(f"{path.name}.json").unlink(missing_ok=True)
                return is_free
        except FileNotFoundError:
            return True
        except OSError as error:
            log("job-model-kept", level="warning", file=path.name, reason=str(error))
            return False


def _find_last_use(path: Path) -> float:
    """Return when a file was last used: a model by its stamp, a download by its last byte."""
    if path.name.endswith(".partial"):
        return path.stat().st_mtime
    try:
        return stamp_path(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0

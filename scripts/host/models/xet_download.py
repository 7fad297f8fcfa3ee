"""Download a Hub file with the Hub's own chunked transfer (`hf_xet`), where the Hub offers it.

It fetches many chunks at once and so is faster than one connection. Its bytes become the partial
file of the ordinary download, which then has nothing left to fetch but verifies every byte as if it
had resumed. If those bytes are wrong, or none came, the ordinary download fetches them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import Origin, locked_partial, partial_path
from scripts.common.fetch.spec import ProgressCallback, redact_url
from scripts.host.models.artifacts import Artifact
from scripts.host.models.hub_metadata import Hub, fetch_metadata

SMALLEST = 10_000_000
"""Bytes below which one request is as fast."""


def is_available() -> bool:
    """Return whether `hf_xet` is installed and not switched off (HF_HUB_DISABLE_XET)."""
    switched_off = os.environ.get("HF_HUB_DISABLE_XET", "").upper() in ("1", "ON", "YES", "TRUE")
    return not switched_off and importlib.util.find_spec("hf_xet") is not None


def fill_partial(
    artifact: Artifact,
    dest: Path,
    hub: Hub,
    token: str,
    on_progress: ProgressCallback,
    warn: Callable[[str], None],
) -> bool:
    """Fill the partial file of `dest` by the Hub's transfer, where that is worth it.

    Args:
        artifact: a file of known SHA-256; from the Hub, or nothing is done.
        dest: its final name.
        hub: which Hub.
        token: the user's; empty for none.
        on_progress: called with the progress.
        warn: called with the reason if the transfer failed, which is no error.

    Returns:
        True if all bytes are there now, not yet verified.
    """
    spec = artifact.spec
    is_small = spec.size is not None and spec.size < SMALLEST
    if not artifact.repo or is_small or not is_available():
        return False
    if _has_begun(dest) or not _is_offered(artifact, hub, token):
        return False
    folder = dest.with_name(f"{dest.name}.partial.hub")
    with locked_partial(dest, lambda: on_progress("waiting", 0, spec.size)) as partial:
        if _has_begun(dest):
            return False  # another process was first
        try:
            path = _download(artifact, folder, hub.endpoint, token, on_progress)
            partial.restart(Origin(redact_url(spec.url), sha256=spec.sha256))
            path.replace(partial.path)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            warn(
                f"{artifact.file}: the Hub's chunked transfer failed, going on without it: {reason}"
            )
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _has_begun(dest: Path) -> bool:
    """Return whether the file is there, or an ordinary download that can be resumed."""
    partial = partial_path(dest)
    return dest.exists() or (partial.exists() and partial.stat().st_size > 0)


def _is_offered(artifact: Artifact, hub: Hub, token: str) -> bool:
    try:
        found = fetch_metadata(artifact, hub, token=token, is_patient=False)
    except UserError:
        return False  # the ordinary download will explain it better
    return found.is_xet and found.sha256 == artifact.spec.sha256


def _download(
    artifact: Artifact, folder: Path, endpoint: str, token: str, on_progress: ProgressCallback
) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # its documented place

    total = artifact.spec.size

    class Reporter(tqdm):
        """Pass the progress of the client's bar to `on_progress`; draw nothing."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]  # untyped
            self._done = 0

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            on_progress("fetching", min(self._done, total or self._done), total)

    return Path(
        hf_hub_download(
            artifact.repo,
            artifact.file,
            revision=artifact.revision,
            local_dir=folder,
            endpoint=endpoint,
            token=token or False,
            tqdm_class=Reporter,
        )
    )

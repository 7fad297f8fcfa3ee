"""Lets the Hub's own chunked transfer (`hf_xet`) bring the bytes, where the Hub offers it.

It fetches many chunks at once and so is faster than one connection. What it brought becomes the
partial file of the ordinary download, which then has nothing left to fetch but verifies every byte
as if it had resumed; if those bytes are wrong, or none came, the ordinary download fetches them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ProgressCallback
from scripts.common.fetch.partial import Origin, locked_partial, partial_path
from scripts.common.fetch.retry_policy import shown
from scripts.host.config.schema import HubSource
from scripts.host.models.artifacts import Item
from scripts.host.models.hub import Hub, describe

SMALLEST = 10_000_000
"""Bytes below which one request is as fast."""


def is_available() -> bool:
    """Whether `hf_xet` is installed and not switched off (HF_HUB_DISABLE_XET)."""
    switched_off = os.environ.get("HF_HUB_DISABLE_XET", "").upper() in ("1", "ON", "YES", "TRUE")
    return not switched_off and importlib.util.find_spec("hf_xet") is not None


def bring(
    item: Item,
    dest: Path,
    hub: Hub,
    token: str,
    watch: ProgressCallback,
    warn: Callable[[str], None],
) -> bool:
    """Have the partial file of `dest` filled by the Hub's transfer, where that is worth it.

    Args:
        item: a Hub file whose SHA-256 is known.
        dest: the final name.
        hub: which one.
        token: the user's; empty for none.
        watch: told what is going on.
        warn: told when it did not work, which is no failure.

    Returns:
        Whether the bytes are there now, not yet verified.
    """
    source, wanted = item.model.source, item.wanted
    is_small = wanted.size is not None and wanted.size < SMALLEST
    if not isinstance(source, HubSource) or is_small or not is_available():
        return False
    if _has_begun(dest) or not _is_offered(source, item, hub, token):
        return False
    folder = dest.with_name(f"{dest.name}.partial.hub")
    with locked_partial(dest, lambda: watch("waiting", 0, wanted.size)) as partial:
        if _has_begun(dest):
            return False  # another process was first
        try:
            path = _download(source, item, folder, hub.endpoint, token, watch)
            partial.begin(Origin(shown(wanted.url), sha256=wanted.sha256))
            path.replace(partial.path)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            warn(f"{item.file}: the Hub's chunked transfer failed, going on without it: {reason}")
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _has_begun(dest: Path) -> bool:
    """Whether the file is there, or an ordinary download that can be resumed."""
    partial = partial_path(dest)
    return dest.exists() or (partial.exists() and partial.stat().st_size > 0)


def _is_offered(source: HubSource, item: Item, hub: Hub, token: str) -> bool:
    try:
        found = describe(hub, source.hub, item.file, item.revision, token=token, is_patient=False)
    except UserError:
        return False  # the ordinary download will say it better
    return found.is_xet and found.sha256 == item.wanted.sha256


def _download(
    source: HubSource, item: Item, folder: Path, endpoint: str, token: str, watch: ProgressCallback
) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # its documented place

    total = item.wanted.size

    class Reporter(tqdm):
        """Its progress bar, which tells `watch` instead of the terminal."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]  # untyped
            self._done = 0

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            watch("fetching", min(self._done, total or self._done), total)

    return Path(
        hf_hub_download(
            source.hub,
            item.file,
            revision=item.revision,
            local_dir=folder,
            endpoint=endpoint,
            token=token or False,
            tqdm_class=Reporter,
        )
    )

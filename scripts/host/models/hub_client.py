"""Ask the Hugging Face Hub for files, through its own client library.

Its chunked transfer (`hf_xet`) fetches many chunks at once and so is faster than one connection.
Its bytes become the partial file of the ordinary download, which then has nothing left to fetch but
verifies every byte as if it had resumed. If those bytes are wrong, or none came, the ordinary
download fetches them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import Origin, locked_partial, partial_path
from scripts.common.fetch.spec import ArtifactSpec, ProgressCallback, redact_url
from scripts.common.secrets import read_token
from scripts.host.config.load import LoadedConfig
from scripts.host.models.artifacts import Artifact, hub_url

# Else the client asks huggingface.co, whatever the mirror, for a list of programs that may run it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_LOCK = threading.Lock()

_TIMEOUT = 30.0  # seconds for a list of files

SMALLEST = 10_000_000
"""Bytes below which one request is as fast."""


@dataclass(frozen=True)
class Hub:
    """The Hub that a config uses.

    Args:
        endpoint: `mirrors.huggingface`.
        ca_bundle: PEM file trusted besides the usual ones; empty for none.
    """

    endpoint: str
    ca_bundle: str = ""

    @classmethod
    def from_config(cls, loaded: LoadedConfig) -> Hub:
        """Take the Hub of a config."""
        return cls(loaded.config.mirrors.huggingface, str(loaded.ca_bundle or ""))


def find_token(spec: ArtifactSpec) -> str:
    """Return the token for a file's host from the environment; empty if there is none.

    For the Hub, its own client looks into the environment and then for what `hf auth login` wrote.
    """
    variable = spec.token_variable
    if variable != "HF_TOKEN":
        return read_token(variable)
    from huggingface_hub import get_token

    return get_token() or ""


def resolve_at_hub(artifact: Artifact, hub: Hub) -> Artifact:
    """Ask the Hub for a file's commit, size and checksum.

    Args:
        artifact: a file of a Hub repository, at any revision.
        hub: which Hub.

    Returns:
        The file at that commit. A large (LFS or Xet) one has a SHA-256, a small one a git blob ID.

    Raises:
        UserError: it refuses, does not have the file, or cannot be reached.
    """
    found = _fetch_metadata(artifact, hub)
    commit, etag = found.commit_hash, found.etag or ""
    spec = replace(
        artifact.spec,
        url=hub_url(hub.endpoint, artifact.repo, commit, artifact.file),
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        size=artifact.spec.size or found.size,
        git_blob=etag if re.fullmatch(r"[0-9a-f]{40}", etag) else "",
    )
    return replace(artifact, revision=commit, spec=spec)


def list_lfs_files(repo: str, revision: str, hub: Hub) -> dict[str, str]:
    """Return the name of each large file of a repository, by its SHA-256.

    Raises:
        UserError: the Hub refuses, has no such revision, or cannot be reached.
    """
    with _LOCK:
        _set_up_client(hub.endpoint, hub.ca_bundle)
    from huggingface_hub import HfApi, get_token

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    api = HfApi(endpoint=hub.endpoint, token=get_token() or False)
    try:
        found = api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    except Exception as error:
        raise _explain(error, f"{repo} at {revision}", hub.endpoint) from None
    return {file.lfs.sha256: file.rfilename for file in found.siblings or () if file.lfs}


def _fetch_metadata(artifact: Artifact, hub: Hub, *, is_patient: bool = True) -> Any:  # noqa: ANN401 - the client's HfFileMetadata
    """Ask the Hub about a file; `is_patient`: retry temporary errors."""
    with _LOCK:
        _set_up_client(hub.endpoint, hub.ca_bundle)
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # Its warning on every retry would hide the one line that matters.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    repo, file, revision = artifact.repo, artifact.file, artifact.revision
    location, token = f"{repo}/{file} at {revision}", find_token(artifact.spec) or False
    url = hf_hub_url(repo, file, revision=revision, endpoint=hub.endpoint)
    for retry in (False, True):
        try:
            found = get_hf_file_metadata(
                url, token=token, endpoint=hub.endpoint, retry_on_errors=retry
            )
            break
        except Exception as error:
            explained = _explain(error, location, hub.endpoint)
            # The client's own retries take an untrusted certificate for a temporary error, too.
            if retry or explained.code or not is_patient:
                raise explained from None
    if not re.fullmatch(r"[0-9a-f]{40}", found.commit_hash or ""):
        raise UserError(
            "the answer is not a Hub's: it names no commit",
            location=location,
            hint=f"check mirrors.huggingface, now {hub.endpoint}",
        )
    return found


@cache
def _set_up_client(endpoint: str, ca_bundle: str) -> None:
    """Make the Hub's client trust a CA bundle, too, and heed no_proxy as other downloads do."""
    from huggingface_hub import get_session, set_client_factory

    from scripts.common.fetch.http import ssl_context
    from scripts.common.fetch.http_errors import is_internal

    options: dict[str, Any] = {"verify": ssl_context(ca_bundle)} if ca_bundle else {}
    if is_internal(endpoint):  # the client knows no CIDR ranges in no_proxy
        options["mounts"] = {f"all://{urlsplit(endpoint).netloc}": None}
    if options:
        client, hooks = type(get_session()), get_session().event_hooks
        set_client_factory(
            lambda: client(event_hooks=hooks, follow_redirects=True, timeout=None, **options)
        )


def _explain(error: Exception, location: str, endpoint: str) -> UserError:
    from huggingface_hub import errors

    from scripts.common.fetch.http_errors import proxy_of

    rows = (
        (errors.GatedRepoError, "the model is gated", "accept its terms, then set HF_TOKEN"),
        (errors.RevisionNotFoundError, "the Hub has no such revision", "check source.revision"),
        (errors.EntryNotFoundError, "the Hub has no such file", "check source.file"),
        (errors.RepositoryNotFoundError, "no such repository, or private", "check it and HF_TOKEN"),
        (errors.OfflineModeIsEnabled, "the Hub is switched off", "unset HF_HUB_OFFLINE"),
    )
    for kind, message, hint in rows:
        if isinstance(error, kind):
            return UserError(message, location=location, hint=hint, code="download-refused")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UserError(location=endpoint, code="certificate")
    first = str(error).strip().splitlines()[:1] or [type(error).__name__]
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        said = getattr(error, "server_message", None) or first[0]
        hint = "check that HF_TOKEN is valid and may read this repository; or unset it"
        return UserError(
            f"the Hub refuses: {said}", location=location, hint=hint, code="download-refused"
        )
    proxy = f", and the proxy {proxy_of(endpoint)}" if proxy_of(endpoint) else ", and the network"
    hint = f"check mirrors.huggingface, now {endpoint}{proxy}"
    if status == 429:
        hint = "set HF_TOKEN, which may ask more often; or run it again in five minutes"
    return UserError(f"the Hub does not answer: {first[0]}", location=location, hint=hint)


def has_xet() -> bool:
    """Return whether `hf_xet` is installed and not switched off (HF_HUB_DISABLE_XET)."""
    switched_off = os.environ.get("HF_HUB_DISABLE_XET", "").upper() in ("1", "ON", "YES", "TRUE")
    return not switched_off and importlib.util.find_spec("hf_xet") is not None


def fill_partial(
    artifact: Artifact,
    dest: Path,
    hub: Hub,
    on_progress: ProgressCallback,
    warn: Callable[[str], None],
) -> bool:
    """Fill the partial file of `dest` by the Hub's transfer, where that is worth it.

    Args:
        artifact: a file of known SHA-256; from the Hub, or nothing is done.
        dest: its final name.
        hub: which Hub.
        on_progress: called with the progress.
        warn: called with the reason if the transfer failed, which is no error.

    Returns:
        True if all bytes are there now, not yet verified.
    """
    spec = artifact.spec
    is_small = spec.size is not None and spec.size < SMALLEST
    if not artifact.repo or is_small or not has_xet():
        return False
    if _has_begun(dest) or not _is_offered(artifact, hub):
        return False
    folder = dest.with_name(f"{dest.name}.partial.hub")
    with locked_partial(dest, lambda: on_progress("waiting", 0, spec.size)) as partial:
        if _has_begun(dest):
            return False  # another process was first
        try:
            path = _download(artifact, folder, hub.endpoint, on_progress)
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


def _is_offered(artifact: Artifact, hub: Hub) -> bool:
    try:
        found = _fetch_metadata(artifact, hub, is_patient=False)
    except UserError:
        return False  # the ordinary download will explain it better
    return found.xet_file_data is not None and found.etag == artifact.spec.sha256


def _download(
    artifact: Artifact, folder: Path, endpoint: str, on_progress: ProgressCallback
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
            token=find_token(artifact.spec) or False,
            tqdm_class=Reporter,
        )
    )

"""Ask the Hugging Face Hub for the properties of a file, through its own client library."""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ArtifactSpec
from scripts.host.config.load import LoadedConfig
from scripts.host.models.artifacts import Artifact, hub_url

_LOCK = threading.Lock()


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


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub describes it.

    Args:
        commit: of the repository, 40 hex digits.
        size: bytes.
        sha256: of a large (LFS or Xet) file; empty for others.
        git_blob: git blob ID of a small file; empty for others.
        is_xet: True if the Hub offers its chunked transfer.
    """

    commit: str
    size: int | None
    sha256: str = ""
    git_blob: str = ""
    is_xet: bool = False


def find_token(spec: ArtifactSpec) -> str:
    """Return the token for a file's host from the environment, or the Hub's own login.

    Empty if there is none.
    """
    variable = spec.token_variable
    token = os.environ.get(variable, "").strip()
    if token or variable != "HF_TOKEN":
        return token
    from huggingface_hub import get_token  # reads what `hf auth login` wrote

    return get_token() or ""


def fetch_metadata(
    artifact: Artifact, hub: Hub, *, token: str = "", is_patient: bool = True
) -> HubFile:
    """Ask the Hub for a file's commit, size and checksum.

    Args:
        artifact: a file of a Hub repository, at any revision.
        hub: which Hub.
        token: the user's; empty for none.
        is_patient: retry temporary errors.

    Raises:
        UserError: it refuses, does not have the file, or cannot be reached.
    """
    with _LOCK:
        _trust(hub.ca_bundle)
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # Its warning on every retry would hide the one line that matters.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    repo, file, revision = artifact.repo, artifact.file, artifact.revision
    location = f"{repo}/{file} at {revision}"
    url = hf_hub_url(repo, file, revision=revision, endpoint=hub.endpoint)

    def ask(*, retry: bool) -> Any:  # noqa: ANN401 - the client's HfFileMetadata
        try:
            return get_hf_file_metadata(
                url, token=token or False, endpoint=hub.endpoint, retry_on_errors=retry
            )
        except Exception as error:
            raise _explain(error, location, hub.endpoint) from None

    try:
        found = ask(retry=False)
    except UserError as error:
        # The client's own retries take an untrusted certificate for a temporary error, too.
        if error.code or not is_patient:
            raise
        found = ask(retry=True)
    etag, commit = found.etag or "", found.commit_hash or ""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(
            "the answer is not a Hub's: it names no commit",
            location=location,
            hint=f"check mirrors.huggingface, now {hub.endpoint}",
        )
    return HubFile(
        commit=commit,
        size=found.size,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        git_blob=etag if re.fullmatch(r"[0-9a-f]{40}", etag) else "",
        is_xet=found.xet_file_data is not None,
    )


def at_commit(artifact: Artifact, found: HubFile, hub: Hub) -> Artifact:
    """Add to a file the commit and properties that the Hub gave for it."""
    spec = replace(
        artifact.spec,
        url=hub_url(hub.endpoint, artifact.repo, found.commit, artifact.file),
        sha256=found.sha256,
        size=artifact.spec.size or found.size,
        git_blob=found.git_blob,
    )
    return replace(artifact, revision=found.commit, spec=spec)


@cache
def _trust(ca_bundle: str) -> None:
    """Make the Hub's client trust a CA bundle too; by itself it reads the environment only."""
    if ca_bundle:
        from huggingface_hub import get_session, set_client_factory

        from scripts.common.fetch.tls import ssl_context

        client, hooks = type(get_session()), get_session().event_hooks
        context = ssl_context(ca_bundle)
        set_client_factory(
            lambda: client(verify=context, event_hooks=hooks, follow_redirects=True, timeout=None)
        )


def _explain(error: Exception, location: str, endpoint: str) -> UserError:
    from huggingface_hub import errors

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
        return UserError(
            "the Hub's certificate is not trusted",
            location=endpoint,
            code="certificate",
        )
    first = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return UserError(
        f"the Hub does not answer: {first[0]}",
        location=location,
        hint=f"check mirrors.huggingface, now {endpoint}, and the network",
    )

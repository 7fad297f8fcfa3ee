"""What the Hugging Face Hub says of a file, asked through its own client library."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.http import trusting
from scripts.host.config.load import LoadedConfig

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Hub:
    """Which Hub is asked.

    Args:
        endpoint: `mirrors.huggingface`.
        ca_bundle: PEM file trusted besides the usual ones; empty for none.
    """

    endpoint: str
    ca_bundle: str = ""

    @classmethod
    def of(cls, loaded: LoadedConfig) -> Hub:
        """The one that a config names."""
        return cls(loaded.config.mirrors.huggingface, str(loaded.ca_bundle or ""))


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub describes it.

    Args:
        commit: of the repository, 40 hex digits.
        size: bytes.
        sha256: of a large (LFS or Xet) file; empty for others.
        git_blob: git's id of a small file; empty for others.
        is_xet: whether the Hub offers its chunked transfer for it.
    """

    commit: str
    size: int | None
    sha256: str = ""
    git_blob: str = ""
    is_xet: bool = False


def describe(
    hub: Hub, repo: str, file: str, revision: str, *, token: str = "", is_patient: bool = True
) -> HubFile:
    """Ask the Hub for a file's commit, size and checksum.

    Args:
        hub: which one.
        repo: owner/repo.
        file: name in the repository.
        revision: branch, tag or commit.
        token: the user's; empty for none.
        is_patient: whether passing errors are tried again.

    Raises:
        UserError: it refuses, does not have it, or cannot be reached.
    """
    with _LOCK:
        _trust(hub.ca_bundle)
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    # Its remark on every retry would drown the one line that counts.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    where = f"{repo}/{file} at {revision}"
    endpoint = hub.endpoint
    url = hf_hub_url(repo, file, revision=revision, endpoint=endpoint)

    def ask(*, again: bool) -> Any:  # noqa: ANN401 - the client's HfFileMetadata
        return get_hf_file_metadata(
            url, token=token or False, endpoint=endpoint, retry_on_errors=again
        )

    try:
        found = ask(again=False)
    except Exception as error:
        final = _explained(error, errors, where, endpoint)
        if final.code or not is_patient:
            raise final from None
        try:  # its own patience takes an untrusted certificate for a passing error, too
            found = ask(again=True)
        except Exception as error_again:
            raise _explained(error_again, errors, where, endpoint) from None
    etag, commit = found.etag or "", found.commit_hash or ""
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(
            "the answer is not a Hub's: it names no commit",
            location=where,
            hint=f"check mirrors.huggingface, now {endpoint}",
        )
    return HubFile(
        commit=commit,
        size=found.size,
        sha256=etag if re.fullmatch(r"[0-9a-f]{64}", etag) else "",
        git_blob=etag if re.fullmatch(r"[0-9a-f]{40}", etag) else "",
        is_xet=found.xet_file_data is not None,
    )


@cache
def _trust(ca_bundle: str) -> None:
    """Have the Hub's client trust a CA bundle too; by itself it reads the environment only."""
    if ca_bundle:
        from huggingface_hub import get_session, set_client_factory

        client, hooks = type(get_session()), get_session().event_hooks
        set_client_factory(
            lambda: client(
                verify=trusting(ca_bundle), event_hooks=hooks, follow_redirects=True, timeout=None
            )
        )


def _explained(error: Exception, errors: Any, where: str, endpoint: str) -> UserError:  # noqa: ANN401 - a module
    reached = f"check mirrors.huggingface, now {endpoint}, and the network"
    rows = (
        (errors.GatedRepoError, "the model is gated", "accept its terms, then set HF_TOKEN"),
        (errors.RevisionNotFoundError, "the Hub has no such revision", "check source.revision"),
        (errors.EntryNotFoundError, "the Hub has no such file", "check source.file"),
        (errors.RepositoryNotFoundError, "no such repository, or private", "check it and HF_TOKEN"),
        (errors.OfflineModeIsEnabled, "the Hub is switched off", "unset HF_HUB_OFFLINE"),
    )
    for kind, what, hint in rows:
        if isinstance(error, kind):
            return UserError(what, location=where, hint=hint, code="download-refused")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return UserError(
            "the Hub's certificate is not trusted",
            location=endpoint,
            code="certificate",
        )
    first = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return UserError(f"the Hub does not answer: {first[0]}", location=where, hint=reached)

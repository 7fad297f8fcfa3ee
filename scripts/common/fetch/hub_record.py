"""Name a file of a Hugging Face Hub repository, and ask the Hub what it must be.

For the worker, whose environment has no Hub client; the host asks through `huggingface_hub`.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy
from scripts.common.secrets import read_token

HUB: Final = "https://huggingface.co"
HUB_TOKEN: Final = "HF_TOKEN"  # noqa: S105 - name of a variable

_REFERENCE: Final = re.compile(
    r"hub:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]*[^@/])(@(?P<revision>[^@\s]+))?", re.ASCII
)
_MAX_ANSWER: Final = 64_000_000  # bytes; a repository of 10,000 files takes 3 MB
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class HubReference:
    """A file of a Hub repository: `hub:owner/repo/file[@revision]`.

    Args:
        repo: owner/name.
        file: its path in the repository.
        revision: branch, tag or commit; empty for the repository's `main`.
    """

    repo: str
    file: str
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """Parse a reference.

        Raises:
            ValueError: it is none.
        """
        found = _REFERENCE.fullmatch(text)
        if not found or ".." in found["file"].split("/"):
            raise ValueError("set it to hub:owner/repo/file, with @revision or without")
        return cls(found["repo"], found["file"], found["revision"] or "")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.repo}/{self.file}{revision}"

    @property
    def cache_folder(self) -> str:
        """Name of the repository's folder in a Hub cache.

        Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
        """
        return f"models--{self.repo.replace('/', '--')}"

    def matches(self, other: HubReference) -> bool:
        """Return whether another reference may mean this file: no revision fits each one."""
        same_file = (self.repo, self.file) == (other.repo, other.file)
        revisions = {self.revision, other.revision} - {""}
        return same_file and len(revisions) < 2


def ask_hub(reference: HubReference, endpoint: str, policy: RetryPolicy) -> ArtifactSpec:
    """Ask the Hub for the address, size and checksum of a file.

    Source: https://huggingface.co/docs/hub/api, `GET /api/models/{repo}/revision/{revision}`.

    Args:
        reference: the file.
        endpoint: address of the Hub.
        policy: timeout and certificates.

    Raises:
        UserError: the Hub refuses, does not have the file, or cannot be reached.
    """
    from scripts.common.fetch.http import open_url
    from scripts.common.fetch.http_errors import RetryableError

    revision, token = reference.revision or "main", read_token(HUB_TOKEN)
    address = f"{endpoint}/api/models/{reference.repo}/revision/{quote(revision, safe='')}"
    body = bytearray()
    try:
        url = f"{address}?blobs=true"
        with closing(open_url(url, headers={}, token=token, policy=policy, accepted=())) as answer:
            while (part := answer.read_some(_CHUNK)) and len(body) <= _MAX_ANSWER:
                body += part
        found = json.loads(bytes(body))
        rows = {row["rfilename"]: row for row in found["siblings"]}
        commit = str(found["sha"])
    except RetryableError as error:
        message = f"the Hub does not answer: {error}"
        raise UserError(message, location=address, code="download-broken") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            "the answer is not a Hub's", location=address, hint="check HF_ENDPOINT"
        ) from None
    if reference.file not in rows:
        raise UserError(
            f"the Hub has no file {reference.file} in {reference.repo} at {revision}",
            location=address,
            hint="check MODEL_PATH",
            code="download-refused",
        )
    row = rows[reference.file]
    lfs = row.get("lfs") or {}
    return ArtifactSpec(
        url=f"{endpoint}/{reference.repo}/resolve/{commit}/{quote(reference.file)}",
        name=reference.file.rpartition("/")[2],
        sha256=str(lfs.get("sha256") or ""),
        size=row.get("size"),
        git_blob="" if lfs else str(row.get("blobId") or ""),
        token_variable=HUB_TOKEN,
    )

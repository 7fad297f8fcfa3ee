"""What the network answered: `config.lock.yaml`, written by `invoke pin` and by nothing else.

Trust on first use of a plain URL is the one other writer; it goes through the same function.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, ValidationError

from scripts.common.errors import Failure
from scripts.host.config.schema import Commit, Section, Sha256

LOCK_NAME = "config.lock.yaml"

_HEADING = """\
# What the network answered: image digests, commits, model revisions and checksums.
# Written by `invoke pin`; choices belong in config.yaml.
"""


class LockedFile(Section):
    """One file of a model."""

    sha256: Sha256
    size: int = Field(ge=0, description="Bytes.")


class LockedModel(Section):
    """A model as it was found; valid only while `source` is what the config says."""

    source: str = Field(description="hub:owner/repo, or the URL.")
    revision: Commit | None = Field(default=None, description="Commit of the Hub repository.")
    files: dict[str, LockedFile] = Field(description="By name in the repository or URL.")


class Lock(Section):
    """The whole of `config.lock.yaml`; an absent entry means unpinned."""

    images: dict[str, str] = Field(
        default_factory=dict, description="Configured reference to sha256:… digest."
    )
    sources: dict[str, Commit] = Field(
        default_factory=dict, description="owner/name@ref to commit, for sources without one."
    )
    models: dict[str, LockedModel] = Field(default_factory=dict, description="By model name.")


def read_lock(root: Path) -> Lock:
    """The lock below `root`, empty where there is none.

    Raises:
        Failure: it is not YAML, or not a lock.
    """
    path = root / LOCK_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock()
    import yaml

    try:
        return Lock.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise Failure(
            f"the lock cannot be read: {first}", where=LOCK_NAME, cure="run: invoke pin"
        ) from None


def write_lock(root: Path, lock: Lock) -> None:
    """Replace the lock below `root` in one step, so that it is never half written."""
    import yaml

    body = yaml.safe_dump(lock.model_dump(), sort_keys=True, default_flow_style=False)
    partial = root / f"{LOCK_NAME}.partial"
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(_HEADING + body)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(root / LOCK_NAME)

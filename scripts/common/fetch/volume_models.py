"""Models that are not baked in: the list the image carries, and fetching them onto the volume.

The build writes the list; the worker reads it at its first start and has every file verified at
its path before it serves, with the same code that filled the builder's store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.artifact import ArtifactSpec, ProgressCallback, VerifiedFile, silent
from scripts.common.fetch.download import fetch_verified
from scripts.common.fetch.retry_policy import RetryPolicy

LIST: Final = Path("/opt/worker/volume-models.json")
"""Where the image has its list; absent when every model is baked in."""


@dataclass(frozen=True)
class VolumeModel:
    """A file the worker must have on its volume.

    Args:
        model: the model's name in the config.
        path: absolute path in the container.
        wanted: where it is and what it must be; always with SHA-256.
        token_variable: environment variable that holds its host's token, if there is one.
    """

    model: str
    path: str
    wanted: ArtifactSpec
    token_variable: str


def as_json(models: Iterable[VolumeModel]) -> str:
    """The list as the image carries it; the same models make the same bytes."""
    return json.dumps([asdict(model) for model in models], indent=2, sort_keys=True) + "\n"


def read_list(path: Path = LIST) -> tuple[VolumeModel, ...]:
    """The image's list; empty where there is none.

    Raises:
        UserError: it is not such a list.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            VolumeModel(**{**row, "wanted": ArtifactSpec(**row["wanted"])}) for row in rows
        )
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"the list of volume models cannot be read: {error}",
            location=str(path),
            hint="build the image again",
        ) from None


def fetch_all(
    models: Iterable[VolumeModel],
    *,
    line: RetryPolicy | None = None,
    watch: ProgressCallback = silent,
) -> tuple[VerifiedFile, ...]:
    """Have every model verified at its path; at once where a stamp says so.

    Several workers that share the volume share one download.

    Args:
        models: from `read_list`.
        line: patience and certificates.
        watch: told what is going on.

    Raises:
        UserError: the first that cannot be had; what is there is verified or not there at all.
    """
    return tuple(
        fetch_verified(
            model.wanted,
            Path(model.path),
            line=line,
            token=os.environ.get(model.token_variable, ""),
            watch=watch,
        )
        for model in models
    )

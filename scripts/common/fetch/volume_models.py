"""List the models that are not baked into an image, and download them to the volume.

The build writes the list; the worker reads it at its first start and verifies every file before it
serves, with the code that fills the builder's store.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hub_record import HUB
from scripts.common.fetch.spec import ArtifactSpec, VerifiedFile
from scripts.common.secrets import read_token

LIST: Final = Path("/opt/worker/volume-models.json")
"""Path of the list in the image; absent when every model is baked in."""

CACHED_LIST: Final = Path("/opt/worker/cached-models.json")
"""Path of the list of models that the platform is to cache: what each `hub:…` must be."""


def as_json(models: Mapping[str, ArtifactSpec]) -> str:
    """Return the list as the image carries it; the same models make the same bytes.

    Args:
        models: what is expected at each absolute path in the container, or of each `hub:…`; always
            with SHA-256.
    """
    specs = {path: asdict(spec) for path, spec in models.items()}
    return json.dumps(specs, indent=2, sort_keys=True) + "\n"


def read_list(path: Path = LIST, hub: str = HUB) -> dict[str, ArtifactSpec]:
    """Read the image's list; empty if there is none.

    Args:
        path: of the list.
        hub: address that stands for the Hub's own, which the list names whatever built the image.

    Raises:
        UserError: it is not such a list.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        specs = {dest: ArtifactSpec(**row) for dest, row in rows.items()}
        return {
            dest: replace(spec, url=f"{hub}/{spec.url.removeprefix(f'{HUB}/')}")
            if spec.url.startswith(f"{HUB}/")
            else spec
            for dest, spec in specs.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the list of volume models cannot be read: {error}",
            location=str(path),
            hint="build the image again",
        ) from None


def fetch_all(models: Mapping[str, ArtifactSpec]) -> tuple[VerifiedFile, ...]:
    """Download every missing model and verify each; files with a valid stamp are not read.

    Workers that share the volume share one download.

    Args:
        models: from `read_list`.

    Raises:
        UserError: a model failed; each file is then verified or not there.
    """
    from scripts.common.fetch.transfer import fetch_verified  # not needed to read the list

    return tuple(
        fetch_verified(spec, Path(path), token=read_token(spec.token_variable))
        for path, spec in models.items()
    )

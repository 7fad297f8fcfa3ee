"""Finds revision, SHA-256 and size of every file of a model."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from scripts.common.download import Fetched, Wanted, fetch_verified
from scripts.common.errors import Failure
from scripts.common.hashing import sha256_of
from scripts.common.web import Line
from scripts.host.config.load import Loaded
from scripts.host.config.lock import LockedFile, LockedModel
from scripts.host.config.schema import HubSource, Model, UrlSource

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling


def locked(loaded: Loaded, model: Model) -> LockedModel:
    """What the outside world says of a model now.

    Raises:
        Failure: it cannot be reached, or differs from what config.yaml says of it.
    """
    if isinstance(model.source, HubSource):
        found = _from_hub(loaded, model.source)
    else:
        found = _from_url(loaded, model, model.source)
    _agree(model, found)
    return found


def _agree(model: Model, found: LockedModel) -> None:
    """Hold a model of one file to the checksum and size that a person wrote down."""
    if len(found.files) != 1:
        return
    [file] = found.files.values()
    for word, said, seen in (
        ("sha256", model.sha256, file.sha256),
        ("size", model.size, file.size),
    ):
        if said is not None and said != seen:
            raise Failure(
                f"model {model.name}: config.yaml says {word} {said}, the source has {seen}",
                where=found.source,
                cure="find out which is right before you mend config.yaml",
            )


def _from_hub(loaded: Loaded, source: HubSource) -> LockedModel:
    info = _model_info(loaded, source)
    known = {sibling.rfilename: sibling for sibling in info.siblings or []}
    missing = [name for name in source.names if name not in known]
    if missing:
        raise Failure(
            f"the repository has no file {', '.join(missing)}",
            where=_address(loaded, source),
            cure="mend models[].source in config.yaml",
        )
    files = {name: _hub_file(loaded, source, known[name], str(info.sha)) for name in source.names}
    return LockedModel(source=f"hub:{source.hub}", revision=info.sha, files=files)


def _model_info(loaded: Loaded, source: HubSource) -> ModelInfo:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=loaded.config.mirrors.huggingface)
    with _hub_failures(_address(loaded, source)):
        _trust(loaded.ca_bundle)
        return api.model_info(source.hub, revision=source.revision, files_metadata=True)


def _hub_file(loaded: Loaded, source: HubSource, sibling: RepoSibling, commit: str) -> LockedFile:
    """The Hub's own record of a large file; a small one is downloaded, proven and hashed."""
    if sibling.lfs:
        return LockedFile(sha256=sibling.lfs.sha256, size=sibling.lfs.size)
    from huggingface_hub import get_token

    url = f"{_address(loaded, source)}/resolve/{commit}/{quote(sibling.rfilename)}"
    blob = sibling.blob_id or ""
    wanted = Wanted(url, sibling.rfilename, size=sibling.size, git_blob=blob, allow_pickle=True)
    return _downloaded(loaded, wanted, token=get_token() or "")


def _from_url(loaded: Loaded, model: Model, source: UrlSource) -> LockedModel:
    """A plain URL says nothing about its bytes, so they are downloaded once and hashed."""
    parts = urlsplit(source.url)
    name = parts.path.rpartition("/")[2] or model.name
    if parts.scheme == "file":
        file = _local(Path(parts.path))
    else:
        wanted = Wanted(source.url, name, allow_pickle=model.allow_pickle)
        file = _downloaded(loaded, wanted)
    return LockedModel(source=source.url, files={name: file})


def _local(path: Path) -> LockedFile:
    try:
        return LockedFile(sha256=sha256_of(path), size=path.stat().st_size)
    except OSError as error:
        raise Failure(
            f"the file cannot be read: {error.strerror}",
            where=str(path),
            cure="mend models[].source.url in config.yaml",
        ) from None


def _downloaded(loaded: Loaded, wanted: Wanted, *, token: str = "") -> LockedFile:
    """Fetch a file next to the store, which has the room, only to measure it."""
    loaded.store.mkdir(parents=True, exist_ok=True)
    line = Line(ca_bundle=str(loaded.ca_bundle or ""))
    with tempfile.TemporaryDirectory(prefix=".pin-", dir=loaded.store) as folder:
        found: Fetched = fetch_verified(wanted, Path(folder) / "file", line=line, token=token)
    return LockedFile(sha256=found.sha256, size=found.size)


def _address(loaded: Loaded, source: HubSource) -> str:
    return f"{loaded.config.mirrors.huggingface}/{source.hub}"


def _trust(bundle: Path | None) -> None:
    """Let the Hub's client trust `mirrors.ca_bundle` besides the system's certificates."""
    if bundle is None:
        return
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import hf_request_event_hook

    def client() -> httpx2.Client:
        context = ssl.create_default_context()
        context.load_verify_locations(bundle)
        return httpx2.Client(
            verify=context, event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True
        )

    set_client_factory(client)


@contextmanager
def _hub_failures(where: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line."""
    from httpx2 import HTTPError  # what the client raises where nothing answers
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise Failure(
            "the Hub wants its terms accepted first",
            where=where,
            cure="accept them on the model's page, then set HF_TOKEN",
        ) from None
    except RepositoryNotFoundError:
        raise Failure(
            "the Hub has no such repository, or it is private",
            where=where,
            cure="check models[].source.hub; for a private one set HF_TOKEN",
        ) from None
    except RevisionNotFoundError:
        raise Failure(
            "the Hub repository has no such revision",
            where=where,
            cure="mend models[].source.revision in config.yaml",
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Failure(
            f"the Hub gives no answer: {reason}", where=where, cure="check mirrors.huggingface"
        ) from None

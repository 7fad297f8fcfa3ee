"""Find revision, SHA-256 and size of every file of a model.

The Hub's own record is enough for a large file. Small files and plain URLs come without a SHA-256:
they are downloaded into the store, where a prefetch finds them later.
"""

from dataclasses import replace

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import RetryPolicy
from scripts.common.fetch.transfer import fetch_verified
from scripts.host.config.lock import LockedFile, LockedModel
from scripts.host.config.schema import Model
from scripts.host.models.artifacts import Artifact, model_artifacts
from scripts.host.models.hub_client import Hub, find_token, resolve_at_hub
from scripts.host.models.store import Store


def find_model_files(model: Model, hub: Hub, store: Store) -> LockedModel:
    """Ask a model's source for the properties of its files now.

    Args:
        model: the model.
        hub: the Hub.
        store: keeps files that had to be downloaded.

    Raises:
        UserError: a file cannot be had, or differs from what config.yaml says of it.
    """
    unpinned = model.model_copy(update={"sha256": None, "size": None})
    artifacts = model_artifacts(unpinned, None, hub.endpoint)
    commit, files = None, {}
    for artifact in artifacts:
        if artifact.repo:  # all files at the first one's commit: a branch may move in between
            asked = replace(artifact, revision=commit or artifact.revision)
            artifact = resolve_at_hub(asked, hub)
            commit = artifact.revision
        files[artifact.file] = _lock_file(artifact, hub, store)
    locked = LockedModel(source=model.source.lock_key, revision=commit, files=files)
    _check_config(model, artifacts[0], locked)
    return locked


def _check_config(model: Model, first: Artifact, locked: LockedModel) -> None:
    """Compare a model of one file with the checksum and size that config.yaml gives."""
    if len(locked.files) != 1:
        return
    [file] = locked.files.values()
    for key, expected, found in (
        ("sha256", model.sha256, file.sha256),
        ("size", model.size, file.size),
    ):
        if expected is not None and expected != found:
            raise UserError(
                f"model {model.name}: config.yaml says {key} {expected}, the source has {found}",
                location=first.source,
                hint="find out which is right before you correct config.yaml",
            )


def _lock_file(artifact: Artifact, hub: Hub, store: Store) -> LockedFile:
    """Return a file's properties; download it into the store where the Hub does not give them."""
    spec = artifact.spec
    if spec.sha256 and spec.size is not None:
        return LockedFile(sha256=spec.sha256, size=spec.size)
    incoming = store.incoming_path(f"pin {spec.url}")
    incoming.unlink(missing_ok=True)  # what an earlier run left proves nothing about now
    policy = RetryPolicy(ca_bundle=hub.ca_bundle)
    file = fetch_verified(spec, incoming, policy=policy, token=find_token(spec))
    store.adopt(file.path, file.sha256)
    return LockedFile(sha256=file.sha256, size=file.size)

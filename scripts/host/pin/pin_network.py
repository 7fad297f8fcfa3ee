"""Look up what config.yaml names in registries, git hosts and the Hub, and write the lock."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.common.concurrently import run_concurrently
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import RetryPolicy, redact_url
from scripts.common.fetch.transfer import fetch_verified
from scripts.host.build.system_packages import choose_snapshot
from scripts.host.config.features import FeatureModel
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import (
    Lock,
    LockedFile,
    LockedModel,
    resolve_base,
    resolve_extension,
    resolve_source,
    update_lock,
)
from scripts.host.config.model_schema import Model
from scripts.host.config.schema import Mirrors
from scripts.host.console import note, warn
from scripts.host.engine.client import client
from scripts.host.git_sources import GitHosts
from scripts.host.models.artifacts import Artifact, artifacts_of, model_artifacts
from scripts.host.models.hub_client import Hub, find_token, resolve_at_hub
from scripts.host.models.store import Store
from scripts.host.pin.extension_lookup import find_extension
from scripts.host.registry.registry_api import read_digest

Pin = str | LockedModel
Lookups = dict[tuple[str, str], Callable[[], Pin]]
"""Look-ups by kind (`image`, `source`, `model`) and key in the lock.

Those of kind `commit` and `weight` only confirm what config and table say: no lock holds them.
"""

_WORKERS = 4


def pin_network(
    variants: Sequence[LoadedConfig], *, check: bool = False, partly: bool = False
) -> tuple[str, ...]:
    """Look up every pin of some variants, and write the lock.

    Args:
        variants: the config of each; at least one.
        check: write nothing.
        partly: keep the lock's entries that these variants do not name, and download each file of
            their features once to confirm its checksum.

    Returns:
        What changed, or with `check` would, one line each.

    Raises:
        UserError: something cannot be found, or disagrees with config.yaml; nothing was written.
    """
    found = find_pins(variants, confirm=partly)
    # A day of the past does not change, so there is nothing to compare it with.
    snapshot = (variants[0].lock.snapshot if check else None) or choose_snapshot()

    def change(before: Lock) -> Lock:
        if not partly:
            return found.model_copy(update={"snapshot": snapshot})
        return Lock(
            images=before.images | found.images,
            sources=before.sources | found.sources,
            models=before.models | found.models,
            snapshot=snapshot,
        )

    if check:
        return _compare(variants[0].lock, change(variants[0].lock))
    return _compare(*update_lock(variants[0].root, change))


def find_pins(variants: Iterable[LoadedConfig], *, confirm: bool = False) -> Lock:
    """Look up every pin of some variants, several at a time.

    Args:
        variants: the config of each.
        confirm: look up files of features with a known checksum, too.

    Raises:
        UserError: one cannot be found or disagrees with config.yaml; others are warned of.
    """
    pins: dict[tuple[str, str], Pin] = {}
    errors = []
    with tempfile.TemporaryDirectory(prefix="pin-", ignore_cleanup_errors=True) as scratch:
        lookups = plan_lookups(variants, Path(scratch), confirm=confirm)
        for (kind, key), pin in run_concurrently(lookups, _WORKERS):
            if isinstance(pin, UserError):
                errors.append(pin)
            else:
                note(f"{kind:<6} {key}: {_describe(pin)}")
                pins[kind, key] = pin
    for other in errors[1:]:
        warn(str(other))
    if errors:
        raise errors[0]
    return Lock.model_validate(
        {
            f"{kind}s": {key: pins[kind, key] for each, key in lookups if each == kind}
            for kind in ("image", "source", "model")
        }
    )


def plan_lookups(
    variants: Iterable[LoadedConfig], scratch: Path, *, confirm: bool = False
) -> Lookups:
    """Return what some variants need looked up, each thing once.

    Args:
        variants: the config of each.
        scratch: a folder for git, removed afterwards or at an interrupt.
        confirm: look up files of features with a known checksum, too, unless the store has them.

    Raises:
        UserError: two of them use one model name for different files.
    """
    lookups: Lookups = {}
    models: dict[str, Model] = {}
    for loaded in variants:
        config = loaded.config
        hosts = GitHosts(config.mirrors.github, loaded.ca_bundle)
        hub, store = Hub.from_config(loaded), Store(loaded.store)
        for name in (config.base.download, config.base.runtime):
            if "@" not in name:
                lookups["image", name] = partial(find_digest, name, config.mirrors.registry)
        for name, source in config.a1111.sources.items():
            release = config.a1111.release
            unlocked = resolve_source(name, source, release, Lock())
            repo, commit = unlocked.repo, unlocked.commit
            if not commit:
                lookup = partial(hosts.find_commit, repo, unlocked.ref)
                lookups["source", unlocked.lock_key] = lookup
            elif name == "webui":
                lookup = partial(hosts.verify_release, repo, commit, release, scratch)
                lookups["commit", f"{repo}@{commit} as {release}"] = lookup
            else:
                lookup = partial(hosts.verify_commit, repo, commit, scratch)
                lookups["commit", f"{repo}@{commit}"] = lookup
        for extension in config.extensions:
            wanted = resolve_extension(extension, Lock())
            look_up = partial(find_extension, loaded, wanted, hosts, scratch)
            if wanted.commit:
                lookups["commit", f"{wanted.repo}@{wanted.commit}"] = look_up
            else:
                lookups["source", wanted.lock_key] = look_up
        for model in config.all_models:
            _refuse_other_file(models.setdefault(model.name, model), model)
            kind = "model"
            if isinstance(model, FeatureModel) and model.is_pinned:
                if not confirm or store.find_stored(artifacts_of(loaded, [model])):
                    continue
                kind = "weight"
            lookup_files = partial(find_model_files, model, config.mirrors, hub, store)
            lookups[kind, model.name] = lookup_files
    return lookups


def find_digest(name: str, registry: str | None) -> str:
    """Ask the registry, through the engine and its credentials, for a base image's digest.

    Args:
        name: the image, without a digest.
        registry: mirror of Docker Hub; None for Docker Hub itself.

    Raises:
        UserError: no engine answers, or the registry has no such image.
    """
    reference = resolve_base(name, Lock(), registry).reference
    hint = "check base.*, mirrors.registry and docker login"
    try:
        found = read_digest(client(), reference)
    except UserError as error:
        why = error.hint if error.code else hint
        raise UserError(error.message, location=reference, hint=why, code=error.code) from None
    if found is None:
        raise UserError("the registry has no such image", location=reference, hint=hint)
    return found


def find_model_files(model: Model, mirrors: Mirrors, hub: Hub, store: Store) -> LockedModel:
    """Ask a model's source for revision, SHA-256 and size of its files now.

    The Hub's own record is enough for a large file. Small files and plain URLs come without a
    SHA-256: they are downloaded into the store, where a prefetch finds them later.

    Args:
        model: the model.
        mirrors: addresses of outside sources.
        hub: the Hub.
        store: keeps files that had to be downloaded.

    Raises:
        UserError: a file cannot be had, or differs from what the config says of it.
    """
    unpinned = model.model_copy(update={"sha256": None, "size": None})
    artifacts = model_artifacts(unpinned, None, mirrors)
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
    """Compare a model of one file with the checksum and size that the config gives."""
    if len(locked.files) != 1:
        return
    [file] = locked.files.values()
    for key, expected, found in (
        ("sha256", model.sha256, file.sha256),
        ("size", model.size, file.size),
    ):
        if expected is not None and expected != found:
            raise UserError(
                f"model {model.name}: {model.declared_in} says {key} {expected},"
                f" the source has {found}",
                location=first.source,
                hint="find out which is right before you change config.yaml",
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


def _compare(before: Lock, after: Lock) -> tuple[str, ...]:
    """Return what differs between two locks, one line each."""
    old, new = _entries(before), _entries(after)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"{name}: no longer named in config.yaml")
        elif name not in old:
            lines.append(f"{name}: new, {_describe(new[name])}")
        elif old[name] != new[name]:
            lines.append(f"{name}: was {_describe(old[name])}, is {_describe(new[name])}")
    return tuple(lines)


def _entries(lock: Lock) -> dict[str, Pin]:
    """Return a lock's entries by kind and key, as people read them."""
    return {
        **{f"base image {key}": digest for key, digest in lock.images.items()},
        **{f"source {key}": commit for key, commit in lock.sources.items()},
        **{f"model {key}": model for key, model in lock.models.items()},
        **({"system packages": f"of {lock.snapshot}"} if lock.snapshot else {}),
    }


def _describe(pin: Pin) -> str:
    if isinstance(pin, str):
        return pin
    source = pin.source if pin.source.startswith("hub:") else redact_url(pin.source)
    revision = f"at {pin.revision}, " if pin.revision else ""
    [first, *others] = pin.files.values()
    return f"{source} {revision}" + (
        f"{len(others) + 1} files" if others else f"sha256 {first.sha256}"
    )


def _refuse_other_file(one: Model, other: Model) -> None:
    if (one.source, one.sha256, one.size) != (other.source, other.sha256, other.size):
        raise UserError(
            f"two variants use the name {one.name} for different model files",
            location="config.yaml",
            hint="rename one of them",
        )

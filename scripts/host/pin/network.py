"""Asks for everything the variants name, each thing once, and writes down the answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.host.concurrently import run_concurrently
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import Lock, LockedModel, update_lock
from scripts.host.config.schema import Model
from scripts.host.console import note, warn
from scripts.host.models.hub_metadata import Hub
from scripts.host.models.store import Store
from scripts.host.pin import base_images, git_sources
from scripts.host.pin.model_files import find_model_files

Answer = TypeVar("Answer")

_WORKERS = 4


@dataclass(frozen=True)
class Questions:
    """What to ask, by the name the lock will know it by.

    Args:
        images: base images without a digest of their own.
        sources: sources without a commit.
        commits: sources with one, which must still be there.
        models: every model.
    """

    images: dict[str, Callable[[], str]] = field(default_factory=dict)
    sources: dict[str, Callable[[], str]] = field(default_factory=dict)
    commits: dict[str, Callable[[], str]] = field(default_factory=dict)
    models: dict[str, Callable[[], LockedModel]] = field(default_factory=dict)


def pin_network(
    variants: Sequence[LoadedConfig], *, check: bool = False, partly: bool = False
) -> tuple[str, ...]:
    """Ask, and write the lock.

    Args:
        variants: the config of each; at least one.
        check: write nothing.
        partly: keep what the lock says of things these variants do not name.

    Returns:
        What changed, or with `check` would, one line each.

    Raises:
        UserError: something cannot be had, or disagrees with config.yaml; nothing was written.
    """
    found = find(variants)

    def changed(before: Lock) -> Lock:
        return merged(before, found) if partly else found

    if check:
        return differences(variants[0].lock, changed(variants[0].lock))
    return differences(*update_lock(variants[0].root, changed))


def find(variants: Iterable[LoadedConfig]) -> Lock:
    """Ask, several things at a time.

    Raises:
        UserError: something cannot be had, or disagrees with config.yaml; each is shown.
    """
    with tempfile.TemporaryDirectory(prefix="pin-", ignore_cleanup_errors=True) as scratch:
        return _answered(questions(variants, Path(scratch)))


def _answered(asked: Questions) -> Lock:
    work = {
        (kind, name): partial(_told, kind, name, question)
        for kind, group in (
            ("image", asked.images),
            ("source", asked.sources),
            ("commit", asked.commits),
            ("model", asked.models),
        )
        for name, question in group.items()
    }
    answers: dict[tuple[str, str], Any] = dict(run_concurrently(work, _WORKERS))
    _refuse_failures([answers[key] for key in work])
    return Lock(
        images={name: answers["image", name] for name in asked.images},
        sources={name: answers["source", name] for name in asked.sources},
        models={name: answers["model", name] for name in asked.models},
    )


def questions(variants: Iterable[LoadedConfig], scratch: Path) -> Questions:
    """What some variants need to know of the outside world.

    Args:
        variants: the config of each.
        scratch: a folder that goes when all is asked, or at an interrupt.

    Raises:
        UserError: two of them mean different things by the same model name.
    """
    asked = Questions()
    meant: dict[str, Model] = {}
    for loaded in variants:
        config = loaded.config
        for reference in (config.base.download, config.base.runtime):
            if "@" not in reference:
                asked.images[reference] = partial(base_images.digest_of, loaded, reference)
        for name, source in config.a1111.sources.items():
            repo, commit = source.repo, source.commit
            if commit and name == "webui":
                release = config.a1111.release
                asked.commits[f"{repo}@{commit} as {release}"] = partial(
                    git_sources.prove_release, loaded, repo, commit, release, scratch
                )
            elif commit:
                asked.commits[f"{repo}@{commit}"] = partial(
                    git_sources.prove, loaded, repo, commit, scratch
                )
            else:  # under the keys that `resolve_source` in scripts.host.build.inputs looks up
                ref = config.a1111.release if name == "webui" else "HEAD"
                asked.sources[f"{repo}@{ref}"] = partial(git_sources.commit_of, loaded, repo, ref)
        for model in config.models:
            _refuse_two_meanings(meant.setdefault(model.name, model), model)
            hub, store = Hub.from_config(loaded), Store(loaded.store)
            asked.models[model.name] = partial(find_model_files, model, hub, store)
    return asked


def differences(before: Lock, now: Lock) -> tuple[str, ...]:
    """What differs between two locks, one line each."""
    return (
        *_changes("base image", before.images, now.images),
        *_changes("source", before.sources, now.sources),
        *_changes("model", before.models, now.models),
    )


def merged(before: Lock, now: Lock) -> Lock:
    """A lock in which only what was asked about changes."""
    return Lock(
        images=before.images | now.images,
        sources=before.sources | now.sources,
        models=before.models | now.models,
    )


def _changes(kind: str, before: dict[str, Answer], now: dict[str, Answer]) -> list[str]:
    lines = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            lines.append(f"{kind} {name}: no longer asked for")
        elif name not in before:
            lines.append(f"{kind} {name}: new, {_short(now[name])}")
        elif before[name] != now[name]:
            lines.append(f"{kind} {name}: was {_short(before[name])}, is {_short(now[name])}")
    return lines


def _short(answer: object) -> str:
    if not isinstance(answer, LockedModel):
        return str(answer)
    at = f"at {answer.revision}, " if answer.revision else ""
    [first, *others] = answer.files.values()
    files = f"{len(others) + 1} files" if others else f"sha256 {first.sha256}"
    is_hub = answer.source.startswith("hub:")
    return f"{answer.source if is_hub else redact_url(answer.source)} {at}{files}"


def _told(kind: str, name: str, question: Callable[[], Answer]) -> Answer:
    answer = question()
    note(f"{kind:<6} {name}: {_short(answer)}")
    return answer


def _refuse_failures(answers: Iterable[object]) -> None:
    """Raise what went wrong, all of it."""
    failures = [answer for answer in answers if isinstance(answer, UserError)]
    if len(failures) == 1:
        raise failures[0]
    if failures:
        for failure in failures:
            warn(str(failure))
        raise UserError(
            f"{len(failures)} things cannot be pinned",
            location="the warnings above",
            hint="mend them and run it again; nothing was written",
        )


def _refuse_two_meanings(one: Model, other: Model) -> None:
    if (one.source, one.sha256, one.size) != (other.source, other.sha256, other.size):
        raise UserError(
            f"two variants mean different files by the model {one.name}",
            location="config.yaml",
            hint="give the other one a name of its own",
        )

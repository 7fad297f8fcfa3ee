"""Finds and removes what builds leave behind; everything it takes can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.files import is_locked
from scripts.host.config.load import LoadedConfig
from scripts.host.engine import containers
from scripts.host.engine.client import client, docker_errors
from scripts.host.models.store import Store

if TYPE_CHECKING:
    from docker import DockerClient

STANDIN_REGISTRY: Final = "standin.invalid"  # where tests/support/images.py puts its images
TEST_REPOSITORY: Final = "a1111-worker-test"  # what engine tests call the images they build
_TOOL_CACHES: Final = (".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class Leftover:
    """Something that can go.

    Args:
        kind: what it is, for people.
        name: which one it is.
        size: bytes that its removal frees.
        remove: removes it.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], None]


def leftovers(loaded: LoadedConfig, *, everything: bool = False) -> tuple[Leftover, ...]:
    """What is there to clean.

    Args:
        loaded: names checkout and store.
        everything: also what killed sessions left in the engine, and caches of tools and the
            stand-in images, which take long to make again.
    """
    found = [*_reports(loaded.root), *_store_leftovers(Store(loaded.store))]
    if everything:
        found += [*_tool_caches(loaded.root), *_of_killed_sessions(loaded.root), *_test_images()]
    return tuple(found)


def remove(found: Sequence[Leftover]) -> None:
    """Remove them all.

    Raises:
        UserError: one cannot be removed; those before it are gone.
    """
    for leftover in found:
        try:
            leftover.remove()
        except FileNotFoundError:
            continue  # somebody was faster
        except OSError as error:
            raise UserError(
                f"cannot be removed: {error.strerror}",
                location=leftover.name,
                hint="remove it as the user who owns it",
            ) from None


def _reports(root: Path) -> Iterator[Leftover]:
    if (root / "reports").is_dir():
        yield _folder("reports", root / "reports")


def _store_leftovers(store: Store) -> Iterator[Leftover]:
    """What killed builds and broken downloads left; a running download keeps its file."""
    for path in sorted(store.root.glob("context-*")):
        yield _folder("staged context", path)
    for path in store.partials():
        if not is_locked(path.with_name(path.name.removesuffix(".json"))):
            yield Leftover("partial download", str(path), path.stat().st_size, path.unlink)


def _tool_caches(root: Path) -> Iterator[Leftover]:
    for name in _TOOL_CACHES:
        if (root / name).is_dir():
            yield _folder("tool cache", root / name)


def _test_images() -> Iterator[Leftover]:
    """What tests made, base images and built ones; nothing where no engine answers."""
    engine = _engine()
    if engine is None:
        return
    for image in engine.images.list():
        for tag in image.tags:
            if is_of_tests(tag):
                untag = partial(_asked, tag, partial(engine.images.remove, tag))
                yield Leftover("test image", tag, image.attrs["Size"], untag)


def is_of_tests(tag: str) -> bool:
    """Whether an image's reference is one that only tests give."""
    repository = tag.rpartition(":")[0]
    return tag.startswith(f"{STANDIN_REGISTRY}/") or repository.split("/")[-1] == TEST_REPOSITORY


def _of_killed_sessions(root: Path) -> Iterator[Leftover]:
    """Containers and images that this checkout started and nobody will remove any more."""
    engine = _engine()
    if engine is None:
        return
    with containers.alone(root) as nobody_runs:
        if not nobody_runs:
            return
    [(name, value)] = containers.label_of(root).items()
    ours = {"label": f"{name}={value}"}
    for container in engine.containers.list(all=True, filters=ours):
        end = partial(container.remove, force=True, v=True)
        yield Leftover("container", container.name, 0, _while_alone(root, container.name, end))
    images = engine.images.list(filters=ours)
    own = _own_sizes(engine) if images else {}
    for image in images:
        known_as = next(iter(image.tags), image.short_id)
        end = partial(engine.images.remove, image.id, force=True)
        size = own.get(image.id, 0)
        yield Leftover("image of a test", known_as, size, _while_alone(root, known_as, end))


def _own_sizes(engine: DockerClient) -> dict[str, int]:
    """Bytes that no other image shares, by image ID."""
    return {each["Id"]: each["Size"] - each["SharedSize"] for each in engine.df()["Images"]}


def _while_alone(root: Path, name: str, end: Callable[[], None]) -> Callable[[], None]:
    def ended() -> None:
        with containers.alone(root) as nobody_runs:
            if not nobody_runs:
                raise UserError(
                    "a session has begun meanwhile", location=name, hint="run it again after that"
                )
            _asked(name, end)

    return ended


def _asked(name: str, end: Callable[[], None]) -> None:
    """Have the engine remove something.

    Raises:
        UserError: it refuses.
    """
    from docker.errors import NotFound

    with (
        docker_errors(
            name, message="the engine keeps it", hint="remove the containers that use it"
        ),
        suppress(NotFound),
    ):  # removed meanwhile
        end()


def _engine() -> DockerClient | None:
    try:
        return client()
    except UserError:
        return None


def _folder(kind: str, path: Path) -> Leftover:
    return Leftover(kind, str(path), _freed(path), lambda: shutil.rmtree(path))


def _freed(folder: Path) -> int:
    """Bytes below a folder that no other name holds."""
    stats = (path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)

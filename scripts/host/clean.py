"""Find and remove what builds leave behind; all of it can be made again."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from docker import DockerClient
from docker.errors import NotFound

from scripts.common.diagnostics.error import UserError
from scripts.common.files import is_locked
from scripts.host.engine.client import client, docker_errors
from scripts.host.engine.containers import block_sessions, checkout_label
from scripts.host.models.store import Store

STANDIN_REGISTRY: Final = "standin.invalid"  # registry of the images of tests/support/images.py
TEST_REPOSITORY: Final = "a1111-worker-test"  # repository of images that engine tests build
_TOOL_CACHES: Final = (".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class Leftover:
    """Something that can be removed.

    Args:
        kind: for people.
        name: path, container or image.
        size: bytes that its removal frees.
        remove: removes it.
    """

    kind: str
    name: str
    size: int
    remove: Callable[[], None]


def find_leftovers(root: Path, store: Path, *, everything: bool = False) -> tuple[Leftover, ...]:
    """List what can be removed.

    Args:
        root: the checkout.
        store: folder of the model store.
        everything: also what killed sessions left in the engine, and caches of tools and the
            stand-in images, which take long to make again.
    """
    found = [*_folders("reports", root, ("reports",)), *_store_leftovers(Store(store))]
    if everything:
        found += _folders("tool cache", root, _TOOL_CACHES)
        try:
            engine = client()
        except UserError:  # no engine answers
            return tuple(found)
        with docker_errors(message="the engine's containers and images cannot be listed"):
            found += [*_sessions(engine, root), *_test_images(engine)]
    return tuple(found)


def remove(leftovers: Sequence[Leftover]) -> None:
    """Remove leftovers, in order.

    Raises:
        UserError: one cannot be removed; those before it are gone.
    """
    for leftover in leftovers:
        try:
            leftover.remove()
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError as error:
            raise UserError(
                f"cannot be removed: {error.strerror}",
                location=leftover.name,
                hint="remove it as the user who owns it",
            ) from None


def is_test_image(tag: str) -> bool:
    """Return whether an image's reference is one that only tests give."""
    repository = tag.rpartition(":")[0]
    return tag.startswith(f"{STANDIN_REGISTRY}/") or repository.split("/")[-1] == TEST_REPOSITORY


def _store_leftovers(store: Store) -> Iterator[Leftover]:
    """Find staged contexts and partial downloads; a running download keeps its files."""
    contexts = (path.name for path in sorted(store.root.glob("context-*")))
    yield from _folders("staged context", store.root, contexts)
    for path in store.partials():
        download = path.with_name(path.name.removesuffix(".json"))  # beside its state as JSON
        if not is_locked(download):
            yield Leftover("partial download", str(path), path.stat().st_size, path.unlink)


def _sessions(engine: DockerClient, root: Path) -> Iterator[Leftover]:
    """Find containers and images of this checkout's killed processes; none while one runs."""
    with block_sessions(root) as is_blocked:
        if not is_blocked:
            return
    [(name, value)] = checkout_label(root).items()
    ours = {"label": f"{name}={value}"}
    for container in engine.containers.list(all=True, filters=ours, ignore_removed=True):
        end = partial(container.remove, force=True, v=True)
        yield Leftover("container", container.name, 0, _remover(container.name, end, root))
    images = engine.images.list(filters=ours)
    # Bytes that no other image shares.
    disk_usage = engine.df()["Images"] if images else ()
    sizes = {image["Id"]: image["Size"] - image["SharedSize"] for image in disk_usage}
    for image in images:
        tag = next(iter(image.tags), image.short_id)
        end = partial(engine.images.remove, image.id, force=True)
        size = sizes.get(image.id, 0)
        yield Leftover("image of a test", tag, size, _remover(tag, end, root))


def _test_images(engine: DockerClient) -> Iterator[Leftover]:
    """Find base images and built images of tests."""
    for image in engine.images.list():
        for tag in filter(is_test_image, image.tags):
            untag = _remover(tag, partial(engine.images.remove, tag))
            yield Leftover("test image", tag, image.attrs["Size"], untag)


def _remover(name: str, end: Callable[[], None], root: Path | None = None) -> Callable[[], None]:
    """Return what removes something from the engine; with `root` only while no session runs."""

    def remove() -> None:
        message, hint = "the engine keeps it", "remove the containers that use it"
        with (
            block_sessions(root) if root else nullcontext(True) as is_blocked,
            docker_errors(name, message=message, hint=hint),
            suppress(NotFound),  # removed meanwhile
        ):
            if not is_blocked:
                raise UserError(
                    "a session has begun meanwhile",
                    location=name,
                    hint="run `invoke clean` again when it has ended",
                )
            end()

    return remove


def _folders(kind: str, parent: Path, names: Iterable[str]) -> Iterator[Leftover]:
    """Find those folders of a parent that exist."""
    for path in map(parent.joinpath, names):
        if path.is_dir():
            yield Leftover(kind, str(path), _freed(path), partial(shutil.rmtree, path))


def _freed(folder: Path) -> int:
    """Return the bytes below a folder that no other hard link keeps."""
    stats = (path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)

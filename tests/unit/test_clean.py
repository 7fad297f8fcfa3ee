"""`invoke clean` without an engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import locked_partial
from scripts.host.clean import STANDIN_REGISTRY, Leftover, find_leftovers, is_test_image, remove
from scripts.host.models.store import Store
from tests.support.images import REGISTRY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def leftovers(store: Store, *, everything: bool = False) -> tuple[Leftover, ...]:
    """The leftovers of the checkout around a store."""
    return find_leftovers(store.root.parent, store.root, everything=everything)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_fresh_checkout_has_nothing_to_clean(store: Store) -> None:
    assert leftovers(store) == ()


def test_verified_files_are_kept_and_the_rest_is_removed(store: Store) -> None:
    kept = write(store.object_path("a" * 64))
    gone = [
        write(store.root.parent / "reports" / "build.json"),
        write(store.root / "context-x" / "extra" / "file"),
        write(store.object_path("b" * 64).with_name(f"{'b' * 64}.partial")),
        write(store.incoming_path("https://example.org/m.safetensors")),
    ]

    remove(leftovers(store))

    assert kept.exists()
    assert not any(path.exists() for path in gone)
    assert leftovers(store) == ()


def test_listing_removes_nothing(store: Store) -> None:
    report = write(store.root.parent / "reports" / "build.json", "12345")
    (found,) = leftovers(store)
    assert (found.kind, found.size) == ("reports", 5)
    assert report.exists()


def test_running_download_keeps_its_partial_file(store: Store) -> None:
    dest = store.object_path("c" * 64)
    with locked_partial(dest, lambda: None) as partial:
        write(partial.path.with_name(f"{partial.path.name}.json"), "{}")
        assert leftovers(store) == ()
    assert len(leftovers(store)) == 2


def test_size_of_a_staged_context_excludes_stored_files(store: Store) -> None:
    stored = write(store.object_path("d" * 64), "a gigabyte, really")
    link = store.root / "context-y" / "model.safetensors"
    link.parent.mkdir()
    os.link(stored, link)
    write(link.with_name("list.json"), "123")
    (found,) = leftovers(store)
    assert found.size == 3


def test_tool_caches_are_listed_only_with_everything(store: Store) -> None:
    write(store.root.parent / ".nox" / "tests" / "file")
    assert leftovers(store) == ()
    kinds = {each.kind for each in leftovers(store, everything=True)}
    assert "tool cache" in kinds


def test_leftover_removed_meanwhile_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "never"
    remove([Leftover("partial download", str(path), 0, path.unlink)])


def test_leftover_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder" / "file").parent
    with pytest.raises(UserError, match="folder"):
        remove([Leftover("reports", str(folder), 0, folder.unlink)])


def test_registry_of_standin_images_is_known() -> None:
    assert STANDIN_REGISTRY == REGISTRY


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("standin.invalid/pytorch:0123456789ab", True),
        ("a1111-worker-test:cpu", True),
        ("127.0.0.1:5000/a1111-worker-test:v1", True),
        ("example/a1111-worker:v1", False),
        ("pytorch/pytorch:2.7.0", False),
    ],
)
def test_only_test_images_are_removed(tag: str, expected: bool) -> None:
    assert is_test_image(tag) is expected

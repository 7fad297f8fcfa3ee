"""`invoke clean`: what it takes, what it leaves, and that looking changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import locked_partial
from scripts.host.clean import STANDIN_REGISTRY, Leftover, is_of_tests, leftovers, remove
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.models.store import Store
from tests.support.images import REGISTRY


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedConfig:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    monkeypatch.delenv("MODELS_STORE", raising=False)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return load(root=tmp_path)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_fresh_checkout_has_nothing_to_clean(loaded: LoadedConfig) -> None:
    assert leftovers(loaded) == ()


def test_reports_contexts_and_partial_downloads_go_and_verified_files_stay(
    loaded: LoadedConfig,
) -> None:
    store = Store(loaded.store)
    kept = write(store.object_path("a" * 64))
    gone = [
        write(loaded.root / "reports" / "build.json"),
        write(loaded.store / "context-x" / "extra" / "file"),
        write(store.object_path("b" * 64).with_name(f"{'b' * 64}.partial")),
        write(store.incoming_path("https://example.org/m.safetensors")),
    ]

    remove(leftovers(loaded))

    assert kept.exists()
    assert not any(path.exists() for path in gone)
    assert leftovers(loaded) == ()


def test_looking_removes_nothing(loaded: LoadedConfig) -> None:
    report = write(loaded.root / "reports" / "build.json", "12345")
    (found,) = leftovers(loaded)
    assert (found.kind, found.size) == ("reports", 5)
    assert report.exists()


def test_a_running_download_keeps_its_partial_file(loaded: LoadedConfig) -> None:
    dest = Store(loaded.store).object_path("c" * 64)
    with locked_partial(dest, lambda: None) as partial:
        write(partial.path.with_name(f"{partial.path.name}.json"), "{}")
        assert leftovers(loaded) == ()
    assert len(leftovers(loaded)) == 2


def test_a_staged_context_frees_only_what_no_other_name_holds(loaded: LoadedConfig) -> None:
    stored = write(Store(loaded.store).object_path("d" * 64), "a gigabyte, really")
    link = loaded.store / "context-y" / "model.safetensors"
    link.parent.mkdir()
    os.link(stored, link)
    write(link.with_name("list.json"), "123")
    (found,) = leftovers(loaded)
    assert found.size == 3


def test_tool_caches_go_only_with_everything(loaded: LoadedConfig) -> None:
    write(loaded.root / ".nox" / "tests" / "file")
    assert leftovers(loaded) == ()
    kinds = {each.kind for each in leftovers(loaded, everything=True)}
    assert "tool cache" in kinds


def test_what_vanished_meanwhile_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "never"
    remove([Leftover("partial download", str(path), 0, path.unlink)])


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder" / "file").parent
    with pytest.raises(UserError, match="folder"):
        remove([Leftover("reports", str(folder), 0, folder.unlink)])


def test_clean_knows_where_the_tests_put_their_images() -> None:
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
def test_only_images_of_tests_are_cleaned(tag: str, expected: bool) -> None:
    assert is_of_tests(tag) is expected

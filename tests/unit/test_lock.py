"""`config.lock.yaml`: what it pins, what it no longer pins, and that it is whole or as it was."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.arguments import build_arguments, unpinned
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.config.lock import (
    LOCK_NAME,
    Lock,
    LockedFile,
    LockedModel,
    read_lock,
    update_lock,
)
from scripts.host.engine.containers import started_by
from tests.support.small_world import in_small_world, needs_namespaces

DIGEST = "sha256:" + "b" * 64
FILE = LockedFile(sha256="a" * 64, size=3)
PINNED = LockedModel(source="hub:o/r@main", revision="c" * 40, files={"f.safetensors": FILE})


@pytest.fixture(autouse=True)
def _only_the_shipped_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return tmp_path


def write(root: Path, lock: Lock) -> None:
    update_lock(root, lambda _: lock)


def with_model(root: Path, source: str) -> LoadedConfig:
    """A config with one model, whose lock knows main's f.safetensors."""
    write(root, Lock(models={"m": PINNED}))
    return load(
        define=[f"models=[{{name: m, path: /model.safetensors, source: {source}}}]"], root=root
    )


def test_the_lock_survives_a_round_trip_and_replaces_in_one_step(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == Lock()
    lock = Lock(images={"a:1": DIGEST}, models={"m": PINNED})
    write(tmp_path, lock)
    assert read_lock(tmp_path) == lock
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_what_was_pinned_is_what_is_built(checkout: Path) -> None:
    loaded = with_model(checkout, "{hub: o/r, file: f.safetensors}")
    assert "model m" not in unpinned(loaded)
    assert build_arguments(loaded)["MODEL_REVISION"] == "c" * 40


@pytest.mark.parametrize(
    ("source", "revision"),
    [
        ("{hub: o/r, file: f.safetensors, revision: v2}", "v2"),
        (f"{{hub: o/r, file: f.safetensors, revision: {'d' * 40}}}", "d" * 40),
        ("{hub: o/r, file: another.safetensors}", "main"),
        ("{hub: o/other, file: f.safetensors}", "main"),
    ],
    ids=["another branch", "another commit", "another file", "another repository"],
)
def test_a_model_that_was_pinned_as_something_else_is_not_pinned(
    checkout: Path, source: str, revision: str
) -> None:
    loaded = with_model(checkout, source)
    assert "model m" in unpinned(loaded)
    arguments = build_arguments(loaded)
    assert arguments["MODEL_REVISION"] == revision
    assert arguments["MODEL_SHA256"] == ""


def test_a_hub_commit_without_a_checksum_is_not_pinned(checkout: Path) -> None:
    assert "model clip-tokenizer" in unpinned(load(root=checkout))


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        ("images:\n  a: [\n", "not valid YAML", f"{LOCK_NAME}:3"),
        ("images: {}\nextra: 1\n", "extra: unknown key", f"{LOCK_NAME}:2"),
        ("images: 3\n", "images: expected a map", f"{LOCK_NAME}:1"),
        ("images:\n  a:1: latest\n", "images.a:1: ", f"{LOCK_NAME}:2"),
        ("sources:\n  a/b@HEAD: main\n", "sources.a/b@HEAD: ", f"{LOCK_NAME}:2"),
        ("models: {m: {files: {}}}\n", "models.m.source: missing value", f"{LOCK_NAME}:1"),
        ("images: {}\nimages: {}\n", "images is said twice", f"{LOCK_NAME}:2"),
        ("- a\n", "expected a map of keys", f"{LOCK_NAME}:1"),
        ("<<<<<<< HEAD\n", "expected a map of keys", f"{LOCK_NAME}:1"),
        ("images: {}\x00", "control characters", LOCK_NAME),
    ],
)
def test_a_broken_lock_is_one_line_with_place_and_a_cure_that_works(
    tmp_path: Path, text: str, said: str, place: str
) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    with pytest.raises(UserError) as failed:
        read_lock(tmp_path)
    message = str(failed.value)
    assert said in message
    assert failed.value.location == place
    assert "delete it, then run: invoke pin" in message
    assert "\n" not in message


def test_a_lock_that_is_no_text_or_no_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_lock(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(UserError, match="the lock is broken"):
        read_lock(tmp_path)


def test_changes_made_at_once_all_arrive(tmp_path: Path) -> None:
    def add(name: str) -> None:
        update_lock(tmp_path, lambda lock: Lock(images={**lock.images, name: DIGEST}))

    names = [f"image:{number}" for number in range(20)]
    threads = [threading.Thread(target=add, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_lock(tmp_path).images) == sorted(names)


def test_a_session_that_runs_in_the_checkout_holds_up_no_change(tmp_path: Path) -> None:
    started_by(tmp_path)  # as `invoke serve` does, until it ends
    change = threading.Thread(
        target=write, args=(tmp_path, Lock(images={"a:1": DIGEST})), daemon=True
    )
    change.start()
    change.join(10)
    assert read_lock(tmp_path).images == {"a:1": DIGEST}


@needs_namespaces
@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ("mount --bind {0} {0} && mount -o remount,bind,ro {0}", "Read-only file system"),
        ("mount -t tmpfs -o size=4k,nr_inodes=1 n {0}", "No space left on device"),
    ],
)
def test_a_lock_that_cannot_be_written_is_one_line(tmp_path: Path, mount: str, reason: str) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from scripts.common.diagnostics.error import UserError;"
        "from scripts.host.config.lock import update_lock\n"
        "try: update_lock(Path(sys.argv[1]), lambda lock: lock)\n"
        "except UserError as failure: print(failure)"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    answer = in_small_world(mount.format(tmp_path), words)
    [line] = answer.stdout.splitlines()
    assert line.startswith(f"the lock cannot be written: {reason}; it is as it was")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_is_broken_stays_as_it_is(checkout: Path) -> None:
    (checkout / LOCK_NAME).write_text("images: 3\n")
    with pytest.raises(UserError, match="expected a map"):
        write(checkout, Lock())
    assert (checkout / LOCK_NAME).read_text() == "images: 3\n"

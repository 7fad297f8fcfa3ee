"""`config.lock.yaml`: pins, stale pins, and atomic updates."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from scripts.host.config.lock import (
    LOCK_NAME,
    Lock,
    LockedFile,
    LockedModel,
    read_lock,
    update_lock,
)
from scripts.host.engine.containers import session_label
from tests.support.errors import user_error
from tests.support.namespaces import needs_namespaces, run_with_mount

DIGEST = "sha256:" + "b" * 64
FILE = LockedFile(sha256="a" * 64, size=3)
PINNED = LockedModel(source="hub:o/r@main", revision="c" * 40, files={"f.safetensors": FILE})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return tmp_path


def write(root: Path, lock: Lock) -> None:
    update_lock(root, lambda _: lock)


def resolve_model(root: Path, source: str) -> BuildInputs:
    """Resolve a config with one model, whose lock has main's f.safetensors."""
    write(root, Lock(models={"m": PINNED}))
    model = f"{{name: m, path: /model.safetensors, source: {source}}}"
    return resolve(load(define=[f"models=[{model}]"], root=root))


def test_lock_survives_a_round_trip_and_leaves_no_other_file(tmp_path: Path) -> None:
    assert read_lock(tmp_path) == Lock()
    lock = Lock(images={"a:1": DIGEST}, models={"m": PINNED})
    write(tmp_path, lock)
    assert read_lock(tmp_path) == lock
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def test_a_build_takes_the_pinned_revision(checkout: Path) -> None:
    inputs = resolve_model(checkout, "{hub: o/r, file: f.safetensors}")
    assert "model m" not in inputs.unpinned
    assert inputs.arguments["MODEL_REVISION"] == "c" * 40


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
def test_a_pin_of_another_source_is_ignored(checkout: Path, source: str, revision: str) -> None:
    inputs = resolve_model(checkout, source)
    assert "model m" in inputs.unpinned
    assert inputs.arguments["MODEL_REVISION"] == revision
    assert inputs.arguments["MODEL_SHA256"] == ""


def test_a_hub_commit_without_a_checksum_is_not_pinned(checkout: Path) -> None:
    assert "model clip-tokenizer" in resolve(load(root=checkout)).unpinned


@pytest.mark.parametrize(
    ("text", "expected", "location"),
    [
        ("images:\n  a: [\n", "not valid YAML", f"{LOCK_NAME}:3"),
        ("images: {}\nextra: 1\n", "extra: unknown key", f"{LOCK_NAME}:2"),
        ("images: 3\n", "images: expected a map", f"{LOCK_NAME}:1"),
        ("images:\n  a:1: latest\n", "images.a:1: ", f"{LOCK_NAME}:2"),
        ("sources:\n  a/b@HEAD: main\n", "sources.a/b@HEAD: ", f"{LOCK_NAME}:2"),
        ("models: {m: {files: {}}}\n", "models.m.source: missing value", f"{LOCK_NAME}:1"),
        ("images: {}\nimages: {}\n", "duplicate key images", f"{LOCK_NAME}:2"),
        ("- a\n", "expected a map of keys", f"{LOCK_NAME}:1"),
        ("<<<<<<< HEAD\n", "expected a map of keys", f"{LOCK_NAME}:1"),
        ("images: {}\x00", "control characters", LOCK_NAME),
    ],
)
def test_a_broken_lock_is_located_with_a_hint(
    tmp_path: Path, text: str, expected: str, location: str
) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    error = user_error(read_lock, tmp_path)
    message = str(error)
    assert expected in message
    assert error.location == location
    assert "delete it, then run: invoke pin" in message
    assert "\n" not in message


def test_a_lock_that_is_no_text_or_no_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        read_lock(tmp_path)
    (tmp_path / LOCK_NAME).unlink()
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(UserError, match="the lock is broken"):
        read_lock(tmp_path)


def test_concurrent_updates_are_all_kept(tmp_path: Path) -> None:
    def add(name: str) -> None:
        update_lock(tmp_path, lambda lock: Lock(images={**lock.images, name: DIGEST}))

    names = [f"image:{number}" for number in range(20)]
    threads = [threading.Thread(target=add, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read_lock(tmp_path).images) == sorted(names)


def test_a_running_session_does_not_block_an_update(tmp_path: Path) -> None:
    session_label(tmp_path)  # as `invoke serve` does, until it ends
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
def test_a_lock_that_cannot_be_written_is_reported(tmp_path: Path, mount: str, reason: str) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from scripts.common.diagnostics.error import UserError;"
        "from scripts.host.config.lock import update_lock\n"
        "try: update_lock(Path(sys.argv[1]), lambda lock: lock)\n"
        "except UserError as failure: print(failure)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    answer = run_with_mount(mount.format(tmp_path), command)
    [line] = answer.stdout.splitlines()
    assert line.startswith(f"the lock cannot be written: {reason}; it is unchanged")
    assert not list(tmp_path.iterdir())


def test_a_broken_lock_is_not_overwritten(checkout: Path) -> None:
    (checkout / LOCK_NAME).write_text("images: 3\n")
    with pytest.raises(UserError, match="expected a map"):
        write(checkout, Lock())
    assert (checkout / LOCK_NAME).read_text() == "images: 3\n"

"""Pip's cache on the volume: measured, pruned, and safe to prune while a real pip installs."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.common.pip_cache.entries import Entry, Kind, measure, scan
from scripts.common.pip_cache.log_statistics import QUIET, RUNS, is_busy, read_runs
from scripts.common.pip_cache.pip_cache_cli import main as command
from scripts.common.pip_cache.prune import choose, prune
from scripts.host.config.load import ROOT
from scripts.host.pip_cache import docker_argv, run_pip_cache
from tests.support.errors import user_error
from tests.support.pip_index import running

DAY = 86_400.0
needs_pip = pytest.mark.skipif(not find_spec("pip"), reason="this Python has no pip")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "pip"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with running() as address:
        yield address


def install(cache: Path, index: str, target: Path, *projects: str) -> None:
    """A real pip, as a worker runs it."""
    (cache / RUNS).mkdir(parents=True, exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(target.parent),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(cache),
        "PIP_LOG": str(cache / RUNS / "worker.log"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    host = index.split("/")[2]
    arguments = ["install", "--quiet", "--index-url", index, "--trusted-host", host, "--no-deps"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--target", str(target), *projects],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def download(cache: Path, name: str, *, size: int, days: float) -> Path:
    """An entry as pip stores it, last used some days ago."""
    folder = cache / "http-v2" / name[0]
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in (
        (folder / name, b"m" * 10),
        (folder / f"{name}.body", b"b" * (size - 10)),
    ):
        path.write_bytes(content)
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder / name


def built(cache: Path, name: str, *, days: float) -> Path:
    folder = cache / "wheels" / name
    folder.mkdir(parents=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    wheel.write_bytes(b"w" * 100)
    os.utime(wheel, (time.time() - days * DAY,) * 2)
    return wheel


def running_pip(cache: Path) -> Path:
    """The log of a pip that has begun and not ended."""
    log = cache / RUNS / "other.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("2026-11-23T20:28:48,144 Using cached wheel link: file:///x.whl\n")
    return log


def names(cache: Path, *, logs: bool = False) -> set[str]:
    return {entry.name for entry in scan(cache) if (entry.kind == "runs") == logs}


def test_a_cache_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    stats = measure(tmp_path / "volume" / "pip")
    assert sum(stats.sizes.values()) == sum(stats.entries.values()) == 0
    assert stats.free > 0
    assert stats.runs.hit_rate == 0


@needs_pip
def test_hits_and_misses_are_those_of_pip_itself(cache: Path, index: str, tmp_path: Path) -> None:
    install(cache, index, tmp_path / "one", "fetched", "built-here")
    first = measure(cache)
    assert (first.runs.runs, first.runs.hits, first.runs.misses) == (1, 0, 2)
    assert first.entries["wheels"] == 1
    assert first.sizes["http"] > 20_000
    install(cache, index, tmp_path / "two", "fetched", "built-here")
    second = measure(cache).runs
    assert (second.runs, second.hits, second.misses) == (2, 2, 2)
    assert second.hit_rate == 0.5
    assert second.saved_bytes >= 20_000
    assert second.saved_seconds > 0
    assert not is_busy(cache, time.time())


PRUNE_ALL_THE_TIME = """
import select, sys
from pathlib import Path
from scripts.common.pip_cache.prune import prune

gone = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    gone += prune(Path(sys.argv[1]), max_size=0).entries
print(gone)
"""


@needs_pip
def test_pip_never_fails_while_its_cache_is_pruned(cache: Path, index: str, tmp_path: Path) -> None:
    install(cache, index, tmp_path / "first", "fetched", "built-here")
    other_worker = subprocess.Popen(
        [sys.executable, "-c", PRUNE_ALL_THE_TIME, str(cache)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for number in range(4):
            target = tmp_path / str(number)
            install(cache, index, target, "fetched", "built-here")
            assert (target / "fetched.py").exists()
            assert (target / "built_here.py").exists()
    finally:
        pruned, _ = other_worker.communicate("enough")
    assert int(pruned) >= 2
    prune(cache, max_size=0)
    assert names(cache) == set()


def test_entries_unused_for_longer_are_deleted(cache: Path) -> None:
    download(cache, "old", size=100, days=40)
    download(cache, "new", size=100, days=1)
    built(cache, "ancient", days=90)
    done = prune(cache, max_age=30 * DAY)
    assert (done.entries, done.size, done.kept) == (2, 200, 0)
    assert names(cache) == {"new"}


def test_least_recently_used_entries_are_deleted_until_the_rest_fits(cache: Path) -> None:
    for name, days in (("a", 4.0), ("b", 1.0), ("c", 3.0), ("d", 2.0)):
        download(cache, name, size=1000, days=days)
    prune(cache, max_size=2500)
    assert names(cache) == {"b", "d"}


def test_reading_an_entry_counts_as_using_it(cache: Path) -> None:
    path = download(cache, "old", size=100, days=40)
    os.utime(path, (time.time(), path.stat().st_mtime))
    prune(cache, max_age=30 * DAY)
    assert names(cache) == {"old"}


def test_content_and_empty_folders_are_deleted_with_an_entry(cache: Path) -> None:
    path = download(cache, "old", size=100, days=40)
    prune(cache, max_age=DAY)
    assert not path.parent.exists()
    assert cache.exists()


def test_a_dry_run_deletes_nothing(cache: Path) -> None:
    download(cache, "old", size=100, days=40)
    done = prune(cache, max_age=DAY, dry_run=True)
    assert (done.entries, done.size) == (1, 100)
    assert names(cache) == {"old"}


def test_built_wheels_stay_while_any_pip_runs(cache: Path) -> None:
    wheel, log = built(cache, "chosen", days=90), running_pip(cache)
    assert prune(cache, max_age=DAY).kept == 1
    assert wheel.exists()
    with log.open("a") as stream:
        stream.write("2026-11-23T20:28:48,823 Removed build tracker: '/tmp/pip-build-tracker-1'\n")
    assert prune(cache, max_age=DAY).kept == 0
    assert not wheel.exists()


def test_logs_are_deleted_when_their_workers_have_long_ended(cache: Path) -> None:
    for name, days in (("gone", 40.0), ("last-week", 7.0), ("today", 0.5)):
        log = cache / RUNS / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"x" * 1000)
        os.utime(log, (time.time(), time.time() - days * DAY))  # reading is no use of a log
    assert measure(cache).sizes["runs"] == 3000
    prune(cache, max_age=30 * DAY)
    assert names(cache, logs=True) == {"last-week.log", "today.log"}
    assert prune(cache, max_size=0).kept == 0
    assert names(cache, logs=True) == {"today.log"}, "its worker may still run"


def test_a_killed_pip_does_not_keep_the_cache_busy(cache: Path) -> None:
    log = running_pip(cache)
    now = log.stat().st_mtime
    assert is_busy(cache, now + QUIET - 1)
    assert not is_busy(cache, now + QUIET + 1)


def test_a_second_prune_at_once_is_refused(cache: Path) -> None:
    with (cache / ".prune.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another prune"):
            prune(cache, max_size=0)


def test_a_cache_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "pip"
    file.write_text("no folder")
    with pytest.raises(UserError, match="the pip cache cannot be used: not a directory"):
        prune(file, max_size=0)


def test_a_damaged_log_is_ignored(cache: Path) -> None:
    (cache / RUNS).mkdir()
    (cache / RUNS / "bad.log").write_bytes(b"\xff\xfe\0garbage\n2026-11-23T20:28:48,1\n")
    (cache / RUNS / "folder.log").mkdir()
    assert read_runs(cache).runs == 0


def test_a_nested_pip_and_its_echo_count_once(cache: Path) -> None:
    (cache / RUNS).mkdir()
    (cache / RUNS / "a.log").write_text(
        "2026-11-23T20:28:33,672 Initialized build tracking at /tmp/x\n"
        "2026-11-23T20:28:37,848   Downloading setuptools-84.2.1-py3-none-any.whl (876 kB)\n"
        "2026-11-23T20:28:37,857     Downloading setuptools-84.2.1-py3-none-any.whl (876 kB)\n"
        "2026-11-23T20:28:38,029   Updating cache with response from x\n"
        "2026-11-23T20:28:39,000   Using cached docopt-0.6.2-py2.py3-none-any.whl (1.5 MB)\n"
    )
    runs = read_runs(cache)
    assert (runs.runs, runs.hits, runs.misses, runs.saved_bytes) == (1, 1, 1, 1_500_000)


ENTRIES = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 100)), max_size=30)


@given(ENTRIES, st.none() | st.integers(0, 2000), st.none() | st.integers(0, 100))
def test_what_remains_fits_and_was_used_later(
    rows: list[tuple[int, int]], max_size: int | None, max_age: int | None
) -> None:
    kind: Kind = "http"
    entries = [
        Entry(kind, str(number), (), size, float(used)) for number, (size, used) in enumerate(rows)
    ]
    gone = choose(entries, now=100.0, max_age=max_age, max_size=max_size)
    left = [entry for entry in entries if entry not in gone]
    assert max_size is None or sum(entry.size for entry in left) <= max_size
    assert max_age is None or all(100.0 - entry.used <= max_age for entry in left)
    assert max(map(used, gone), default=0) <= min(map(used, left), default=100)
    if max_size is None and max_age is None:
        assert not gone


def used(entry: Entry) -> float:
    return entry.used


def test_the_command_prints_json_and_text(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(cache, "big", size=5000, days=2)
    download(cache, "small", size=50, days=1)
    assert command(["report", "--json"], cache) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sizes"]["http"] == 5050
    assert [row["name"] for row in report["largest"]] == ["big", "small"]
    assert report["runs"]["hit_rate"] == 0
    assert command(["prune", "--max-size", "1k"], cache) == 0
    assert capsys.readouterr().out == "deleted 1 entries, 5 kB\n"
    assert command(["stats"], cache) == 0
    assert "http      50 B in 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["prune", "--max-size", "lots"], ["prune", "--older-than", "-1"]]
)
def test_an_invalid_size_or_age_is_refused(
    cache: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(arguments, cache)
    assert arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            {"container": "worker"},
            "docker exec worker /opt/runpod/bin/python -m scripts.container pip-cache stats",
        ),
        (
            {"volume": "cache", "image": "worker:1"},
            "docker run --rm --volume cache:/runpod-volume --network none worker:1 pip-cache stats",
        ),
    ],
)
def test_the_cache_tasks_run_the_containers_own_command(
    location: dict[str, str], expected: str
) -> None:
    assert " ".join(docker_argv(["stats"], **location)) == expected


def test_a_cache_must_be_named_exactly_once() -> None:
    error = user_error(run_pip_cache, ["stats"], container="a", volume="", path="/b", variant="cpu")
    assert "one of: --container" in error.hint

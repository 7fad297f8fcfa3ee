"""`invoke models.*` as a person and a machine see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.host.config.load import ROOT
from scripts.host.models.prefetch import prefetch
from scripts.host.models.store import Store
from tests.unit.checkout import (
    MANNER,
    forget,
    loaded_from,
    local,
    make_checkout,
    plain_environment,
    safetensors_bytes,
    sha,
)

ONE, TWO = safetensors_bytes(seed=1), safetensors_bytes(seed=2)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    main = local(tmp_path, "one", ONE, path="/model.safetensors")
    root = make_checkout(tmp_path / "checkout", main, local(tmp_path, "two", TWO))
    prefetch(loaded_from(root), manner=MANNER)
    return root


def invoke(*words: str, config: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "IMAGE_CONFIG": str(config), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_json_events_tell_a_machine_everything(root: Path) -> None:
    shutil.rmtree(loaded_from(root).store)
    done = invoke("models.prefetch", "--json", config=root / "config.local.yaml")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "done"
    ready = {event["model"]: event for event in events if event["event"] == "ready"}
    assert ready["one"]["sha256"] == sha(ONE)
    assert ready["one"]["state"] == "fetched"
    assert any(event["event"] == "fetching" for event in events)


def test_the_table_and_the_path_are_results_and_a_failure_is_one_line(root: Path) -> None:
    config = root / "config.local.yaml"
    done = invoke("models.prefetch", config=config)
    assert [line.split()[-3] for line in done.stdout.splitlines()[1:]] == ["cached", "cached"]
    path = invoke("models.path", "one", config=config)
    assert Path(path.stdout.strip()).read_bytes() == ONE
    failed = invoke("models.path", "three", config=config)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert len(failed.stderr.splitlines()) == 1


def test_a_prefetch_with_nothing_to_do_notices_every_change(root: Path) -> None:
    config = root / "config.local.yaml"

    def states() -> list[str]:
        done = invoke("models.prefetch", "--json", config=config)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return [event["state"] for event in events if event["event"] == "ready"]

    assert states() == states() == ["cached", "cached"]
    one = Store(loaded_from(root).store).object_path(sha(ONE))
    os.utime(one, (9, 9))
    assert states() == ["verified", "cached"]
    one.unlink()
    assert states() == ["fetched", "cached"]
    forget(root, "two")
    assert states() == ["cached"]

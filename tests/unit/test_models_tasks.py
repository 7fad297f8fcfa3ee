"""Run `invoke models.*` and check its output for people and machines."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from scripts.host.config.load import ROOT
from scripts.host.models.models_display import bars
from tests.support.checkout import (
    forget,
    from_url,
    loaded_from,
    local,
    make_checkout,
    prefetched,
    safetensors_bytes,
    sha,
    store_of,
)
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.namespaces import needs_namespaces, run_with_mount
from tests.support.running import invoke

ONE, TWO = safetensors_bytes(seed=1), safetensors_bytes(seed=2)


@pytest.fixture(autouse=True)
def _no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    main = local(tmp_path, "one", ONE, path="/model.safetensors")
    root = make_checkout(tmp_path / "checkout", main, local(tmp_path, "two", TWO))
    prefetched(root)
    return root


def test_json_events_describe_every_file(root: Path) -> None:
    shutil.rmtree(loaded_from(root).store)
    done = invoke("models.prefetch", "--json", config=root / "config.local.yaml")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "done"
    ready = {event["model"]: event for event in events if event["event"] == "ready"}
    assert ready["one"]["sha256"] == sha(ONE)
    assert ready["one"]["state"] == "fetched"
    assert any(event["event"] == "fetching" for event in events)


def test_table_and_path_are_results_and_a_failure_two_lines(root: Path) -> None:
    config = root / "config.local.yaml"
    done = invoke("models.prefetch", config=config)
    assert [line.split()[-3] for line in done.stdout.splitlines()[1:]] == ["cached", "cached"]
    path = invoke("models.path", "one", config=config)
    assert Path(path.stdout.strip()).read_bytes() == ONE
    failed = invoke("models.path", "three", config=config)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert [line.split(":")[0] for line in failed.stderr.splitlines()] == ["error", "hint"]


def test_receipt_is_invalid_after_any_change(root: Path) -> None:
    config = root / "config.local.yaml"

    def states() -> list[str]:
        done = invoke("models.prefetch", "--json", config=config)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return [event["state"] for event in events if event["event"] == "ready"]

    assert states() == states() == ["cached", "cached"]
    one = store_of(root).object_path(sha(ONE))
    os.utime(one, (9, 9))
    assert states() == ["verified", "cached"]
    one.unlink()
    assert states() == ["fetched", "cached"]
    forget(root, "two")
    assert states() == ["cached"]


WATCHED = """
import sys
from invoke.main import program
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
try:
    program.run(["invoke", "models.prefetch", *sys.argv[2:]])
except SystemExit as ended:
    assert not ended.code
print(*(path for path in opened if path.startswith(sys.argv[1])), file=sys.stderr)
"""


def opened_in_store(root: Path, *more: str) -> list[str]:
    """Return the files that a prefetch opens below the store, by Python's audit events."""
    store = loaded_from(root).store
    environment = {**os.environ, "IMAGE_CONFIG": str(root / "config.local.yaml")}
    command = [sys.executable, "-c", WATCHED, str(store), *more]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("cached") == 2
    return [str(Path(path).relative_to(store)) for path in done.stderr.split()]


def test_second_prefetch_reads_no_model_file(root: Path) -> None:
    invoke("models.prefetch", config=root / "config.local.yaml")
    for arguments in ((), ("--name", "one", "--name", "two")):  # with and without a receipt
        objects = [path for path in opened_in_store(root, *arguments) if path.startswith("objects")]
        assert all(path.endswith(".stamp") for path in objects)


def test_prefetch_table_columns(root: Path) -> None:
    done = invoke("models.prefetch", "--rehash", config=root / "config.local.yaml")
    head, first, _ = done.stdout.splitlines()
    columns = ["model", "size", "source", "revision", "sha256", "state", "seconds", "MB/s"]
    assert head.split() == columns
    assert first.split()[:3] == ["one", "1.5", "MB"]
    assert first.split()[-4:-2] == [sha(ONE)[:8], "verified"]


def test_progress_without_a_terminal_is_timed_lines(root: Path) -> None:
    shutil.rmtree(loaded_from(root).store)
    done = invoke("models.prefetch", config=root / "config.local.yaml")
    lines = [line for line in done.stderr.splitlines() if " one " in line]
    states = [re.fullmatch(r" *\d+\.\ds one (\w+) .+ of 1.5 MB", line) for line in lines]
    assert [state and state[1] for state in states] == ["fetching", "verifying", "fetched"]
    assert "\033" not in done.stderr


def plain(written: str) -> str:
    """Remove escape sequences."""
    return re.sub(r"\033\[[\d;?]*[a-zA-Z]", "", written)


@pytest.mark.parametrize("columns", [80, 120])
def test_bars_take_one_line_each_at_any_width(columns: int) -> None:
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=columns, height=24)
    with bars(terminal) as shown:
        long = shown.labelled("vae-ft-mse-840000-ema-pruned-and-more", {})
        long("fetching", 600_000_000, 2_000_000_000)
        other = shown.labelled("clip-tokenizer/special_tokens_map.json", {})
        other("verifying", 100, 200)
        shown.labelled("later", {})("queued", 0, 1_999_999_800)
    lines = re.split(r"[\r\n]+", plain(out.getvalue()))
    assert max(map(len, lines)) <= columns
    assert any(re.search(r"^vae-ft\S+ +fetching .*0\.6/2\.0 GB", line) for line in lines)
    assert any(re.search(r"^clip-tok\S+ +verifying .*100/200 bytes", line) for line in lines)
    assert any(re.search(r"^total .*0\.6/4\.0 GB", line) for line in lines)
    assert not any("later" in line for line in lines)


def on_a_terminal(*arguments: str, config: Path, **more: str) -> str:
    """Return what a task writes to a terminal of 80 columns."""
    terminal, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "IMAGE_CONFIG": str(config), "TERM": "xterm", **more}
    command = [sys.executable, "-m", "invoke", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=inner, stderr=inner):
        os.close(inner)
        written = b""
        with suppress(OSError):  # the terminal's other end was closed
            while some := os.read(terminal, 1 << 16):
                written += some
    os.close(terminal)
    return written.decode()


def test_bars_show_speed_and_time_left_and_no_color_gives_lines(tmp_path: Path) -> None:
    with misbehaving(ONE, Behaviour(rate=1_500_000)) as server:
        model = from_url(f"{server.url}/m.safetensors", sha256=sha(ONE))
        config = make_checkout(tmp_path / "c", model) / "config.local.yaml"
        moving = on_a_terminal("models.prefetch", config=config, NO_COLOR="")
        assert re.search(r"\d/1\.5 MB +1\.\d MB/s 0?0:0", plain(moving))
        assert max(map(len, plain(moving).splitlines())) <= 80
        shutil.rmtree(tmp_path / "c" / "models")
        still = on_a_terminal("models.prefetch", config=config, NO_COLOR="1")
    assert "s u fetching" in still
    assert "\033" not in still


def test_json_events_name_the_error(tmp_path: Path) -> None:
    with misbehaving(TWO) as server:
        model = from_url(f"{server.url}/m.safetensors", sha256=sha(ONE))
        config = make_checkout(tmp_path / "c", model) / "config.local.yaml"
        done = invoke("models.prefetch", "--json", config=config)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert (events[-1]["event"], events[-1]["code"]) == ("error", "wrong-bytes")
    assert ("failed", "u") in [(each["event"], each.get("model")) for each in events]


def test_verify_names_and_deletes_the_damaged_object(root: Path) -> None:
    config = root / "config.local.yaml"
    damaged = store_of(root).object_path(sha(TWO))
    with damaged.open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"x")
    done = invoke("models.verify", config=config)
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[1] for row in rows if "whole" in row] == ["one"]
    assert [row[1] for row in rows if "sha256" in row] == ["two"]
    assert invoke("models.verify", "--delete", config=config).returncode == 0
    assert not damaged.exists()
    assert invoke("models.prefetch", config=config).returncode == 0
    assert damaged.read_bytes() == TWO


def test_prune_deletes_only_with_yes(root: Path) -> None:
    config = root / "config.local.yaml"
    unwanted = store_of(root).object_path(sha(TWO))
    forget(root, "two")
    shown = invoke("models.prune", config=config)
    assert unwanted.name in shown.stdout
    assert unwanted.exists()
    assert invoke("models.prune", "--yes", config=config).returncode == 0
    assert not unwanted.exists()
    assert "nothing to delete" in invoke("models.prune", config=config).stdout


@needs_namespaces
def test_read_only_store_can_be_used(root: Path, tmp_path: Path) -> None:
    store = loaded_from(root).store
    other = make_checkout(
        tmp_path / "other", local(tmp_path, "mine", ONE), store={"path": str(store)}
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from scripts.host.models.models_context import staged_context\n"
        "from tests.support.checkout import prefetch_models, store_of\n"
        "root = Path(sys.argv[1])\n"
        "files = prefetch_models(root)\n"
        "[file] = files.values()\n"
        "with staged_context(store_of(root), files) as folder:\n"
        "    staged = (folder / 'extra' / 'mine.safetensors').read_bytes()\n"
        "print(file.state, staged == file.path.read_bytes())\n"
    )
    mount = f"mount --bind {store} {store} && mount -o remount,ro,bind {store}"
    done = run_with_mount(mount, [sys.executable, "-c", code, str(other)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cached True"


def test_add_and_remove_take_positional_arguments(root: Path) -> None:
    config = root / "config.local.yaml"
    before = (ROOT / "config.yaml").read_bytes()
    added = invoke("models.add", "x", "hub:o/r/m.safetensors", "--path", "relative", config=config)
    assert "models.2.path" in added.stderr  # it was understood; only the path cannot be
    words = ("models.add", "x", "hub:o/r/m.safetensors", "--kind", "loras", "--licence", "MIT")
    assert "models.2.kind" in invoke(*words, config=config).stderr
    removed = invoke("models.remove", "nothing", config=config)
    assert "there is no model nothing" in removed.stderr
    assert (ROOT / "config.yaml").read_bytes() == before

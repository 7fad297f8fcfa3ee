"""Ctrl-C and SIGTERM at random moments: one line, nothing left, and the next run works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.host.config.lock import LOCK_NAME
from tests.support.checkout import make_checkout
from tests.support.git_server import repositories, serving
from tests.support.hub import hub
from tests.support.install import CHECKPOINT, LORA, safetensors, write
from tests.support.interruption import CLEANS_UP, make_program, run_until

MOMENTS = int(os.environ.get("INTERRUPTIONS", "3"))  # of each command; fifty by hand
DIGEST = "sha256:" + "0" * 64
REPO, FILE = "owner/checkpoint", "weights.safetensors"
STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A git host, and a Hub with one file that takes a second."""
    folder = tmp_path_factory.mktemp("servers")
    repositories(folder / "git")
    write(folder / "hub" / REPO / FILE, safetensors({"model.x": (500_000,)}))
    write(folder / "hub" / "openai/clip-vit-large-patch14" / "vocab.json", "{}")
    with serving(folder / "git") as git, hub(folder / "hub") as models:
        models.rate = 4_000_000
        yield {"github": git, "huggingface": models.url, "civitai": "http://127.0.0.1:9"}


@pytest.fixture
def checkout(tmp_path: Path, servers: dict[str, Any]) -> Path:
    """A checkout whose sources are on this machine."""
    model = {"name": "m", "source": {"hub": REPO, "file": FILE}, "path": "/model.safetensors"}
    names = ("webui", "assets", "stable-diffusion", "generative-models", "k-diffusion", "blip")
    root = make_checkout(
        tmp_path / "checkout",
        model,
        mirrors=servers,
        base={"download": f"a/b@{DIGEST}", "runtime": f"c/d@{DIGEST}"},
        a1111={"sources": {name: {"commit": None} for name in (*names, "clip")}},
        variants={"sdxl": {"features": [], "models": [model]}, "full": {"features": []}},
    )
    install = tmp_path / "webui"
    write(install / "webui.py", "")
    write(install / "models/Stable-diffusion/photo.safetensors", safetensors(CHECKPOINT, 1))
    for number in range(40):
        write(install / f"models/Lora/{number}.safetensors", safetensors(LORA, number))
    for number in range(30):
        write(root / "reports" / str(number), "x")
    return make_program(root)


def no_remains(root: Path) -> None:
    """Assert that a command left nothing but what the next one resumes."""
    for path in root.rglob("*"):
        is_resumed = path.parent.parent.name == "objects"
        assert is_resumed or ".partial" not in path.name, path
        assert not path.name.startswith("context-"), path


COMMANDS: dict[str, tuple[tuple[str, ...], Callable[[Path], bool]]] = {
    "prefetch": (
        ("models.prefetch",),
        lambda root: (root / "models" / "names" / "m" / FILE).exists(),
    ),
    "pin": (("pin", "--variant", "cpu"), lambda root: (root / LOCK_NAME).exists()),
    "import": (
        ("import", "../webui", "--offline"),
        lambda root: "photo" in (root / "config.local.yaml").read_text(),
    ),
    "clean": (("clean",), lambda root: not (root / "reports").exists()),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_leaves_nothing_and_can_be_run_again(
    checkout: Path, name: str
) -> None:
    arguments, is_done = COMMANDS[name]
    moments = random.Random(name)  # noqa: S311 - moments, not secrets
    for number in range(MOMENTS):
        after, stop = moments.uniform(0.3, 1.6), STOPS[number % 2]
        ended = run_until(checkout, *arguments, after=after, stop=stop)
        said = f"after {after:.3f} s, {stop.name}: {ended}"
        assert ended.left == (), said
        assert ended.running == (), said
        no_remains(checkout)
        if ended.status == 0 or not ended.was_running:
            continue
        assert ended.says_interrupted(stop), said
    again = run_until(checkout, *arguments)
    assert again.status == 0, again
    assert is_done(checkout)
    assert not list(checkout.rglob("*.partial*"))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_only_a_second_ctrl_c_interrupts_a_clean_up(first: int, second: int) -> None:
    """As nox sends SIGTERM 0.3 s after Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLEANS_UP],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    for number in (first, second):
        process.stdout.readline()
        process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert output == ("" if second == signal.SIGINT else "done\n")

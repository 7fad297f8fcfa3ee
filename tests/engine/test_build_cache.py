"""Registry cache and provenance, on an engine whose image store can do them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts.host.config.load import ROOT
from tests.engine.running import eventually, invoke


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for sockets below it: 107 characters are the limit."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a mount may outlive its engine for a moment


@pytest.fixture
def second_engine(short_folder: Path) -> Iterator[str]:
    """The address of an engine of its own, with the containerd image store."""
    if os.geteuid() != 0:
        pytest.skip("starting a second engine needs root")
    settings = short_folder / "daemon.json"
    store = {"features": {"containerd-snapshotter": True}}
    # Not `"bridge": "none"`: an engine started so deletes docker0, which is the first engine's too.
    aloof = dict.fromkeys(("iptables", "ip6tables", "ip-forward", "ip-masq"), False)
    settings.write_text(json.dumps({**store, **aloof}))
    address = f"unix://{short_folder}/sock"
    log = (short_folder / "log").open("w")
    words = ["dockerd", f"--config-file={settings}", f"--host={address}"]
    words += [f"--{name}={short_folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    with log, subprocess.Popen(words, stdout=log, stderr=log) as daemon:
        try:
            eventually(lambda: answers(address), seconds=60, what="the second engine answers")
            yield address
        finally:
            daemon.terminate()
            daemon.wait(60)


def answers(address: str) -> bool:
    asked = subprocess.run(["docker", "--host", address, "info"], capture_output=True, check=False)
    return asked.returncode == 0


def copy_image(reference: str, address: str) -> None:
    with subprocess.Popen(["docker", "save", reference], stdout=subprocess.PIPE) as saved:
        subprocess.run(
            ["docker", "--host", address, "load", "--quiet"],
            stdin=saved.stdout,
            check=True,
            capture_output=True,
        )


@pytest.mark.slow
def test_a_fleet_shares_its_work_through_a_registry(
    second_engine: str, image_config: Path, registry: str
) -> None:
    copy_image(yaml.safe_load(image_config.read_text())["base"]["download"], second_engine)
    cache = f"type=registry,ref={registry}/cache"

    def build(define: str) -> list[bool]:
        answer = invoke(
            *("build", "--variant", "cpu", "--target", "sources", "-D", define),
            config=image_config,
            DOCKER_HOST=second_engine,
        )
        assert answer.returncode == 0, answer.stderr
        assert "left out" not in answer.stderr
        steps = json.loads((ROOT / "reports/build.json").read_text())["steps"]
        return [step["cached"] for step in steps if step["instruction"].startswith("RUN")]

    assert build(f'build.cache.to=["{cache},mode=max"]') == [False, False]
    forget = ["docker", "--host", second_engine, "buildx", "prune", "--all", "--force"]
    subprocess.run(forget, check=True, capture_output=True)
    assert build(f'build.cache.from=["{cache}"]') == [True, True]


def test_a_cache_the_builder_cannot_export_is_said_and_left_out(image_config: Path) -> None:
    answer = invoke(
        *("build", "--variant", "cpu", "--target", "sources"),
        *("-D", 'build.cache.to=["type=registry,ref=127.0.0.1:9/cache"]'),
        config=image_config,
    )
    assert answer.returncode == 0, answer.stderr
    assert "build.cache.to is left out" in answer.stderr

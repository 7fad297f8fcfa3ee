"""Wrong inputs and broken machines end in one error, and leave nothing unverified."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.running import error_line, invoke

pytestmark = pytest.mark.engine


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def verified(store: Path) -> list[Path]:
    """Return every safetensors file of a store with a final name."""
    return list(store.rglob("*.safetensors")) if store.exists() else []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("image: [\n", "not valid YAML"), ("imagee: {}\n", "imagee: unknown key")],
)
def test_a_broken_config_stops_before_the_build(tmp_path: Path, text: str, expected: str) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(text)
    line = error_line(invoke("build", config=config))
    assert expected in line
    assert f"{config}:" in line


def test_a_missing_engine_is_reported_with_a_hint(image_config: Path) -> None:
    answer = invoke(
        "build", "--target", "sources", config=image_config, DOCKER_HOST="unix:///nowhere.sock"
    )
    line = error_line(answer)
    assert "[engine-missing]" in line
    assert "scripts/bootstrap" in line


def test_a_missing_buildx_is_reported(image_config: Path, tmp_path: Path) -> None:
    real = shutil.which("docker")
    shim = tmp_path / "docker"  # the real engine and command line, less the plugin
    shim.write_text(
        "#!/bin/sh\n"
        '[ "$1" != buildx ] || { echo "unknown command: docker buildx" >&2; exit 1; }\n'
        f'exec {real} "$@"\n'
    )
    shim.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    line = error_line(invoke("build", "--target", "sources", config=image_config, PATH=path))
    assert "[buildx-missing]" in line


def test_a_full_disk_leaves_no_model_behind(image_config: Path, small_disk: Path) -> None:
    answer = invoke("build", "--variant", "cpu", config=image_config, MODELS_STORE=str(small_disk))
    line = error_line(answer)
    assert "disk" in line.lower() or "space" in line.lower()
    assert verified(small_disk) == []


def test_a_wrong_checksum_leaves_no_model_behind(
    image_config: Path, store: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    config = yaml.safe_load(image_config.read_text())
    for model in config["models"]:
        if model["path"] == "/model.safetensors":
            model["sha256"] = "0" * 64
    wrong.write_text(yaml.safe_dump(config))
    line = error_line(invoke("build", "--variant", "cpu", config=wrong, MODELS_STORE=str(store)))
    assert "sha256" in line.lower() or "checksum" in line.lower()
    assert verified(store) == []


def test_an_unreachable_mirror_is_named_within_two_minutes(image_config: Path, store: Path) -> None:
    began = time.monotonic()
    answer = invoke(
        *("build", "--variant", "cpu", "-D", "mirrors.huggingface=http://127.0.0.1:9"),
        *("-D", "store.concurrency=8"),  # all files at once: the client retries each for 23 s
        config=image_config,
        MODELS_STORE=str(store),
    )
    assert "127.0.0.1:9" in error_line(answer)
    assert time.monotonic() - began < 120
    assert verified(store) == []


def test_a_failed_step_is_named_with_its_last_lines(image_config: Path) -> None:
    answer = invoke(
        *("build", "--target", "sources"),
        *("-D", f"a1111.sources.blip.commit={'dead' * 10}"),
        config=image_config,
    )
    line = error_line(answer)
    assert "sources" in line
    assert "fetch-source: cannot fetch" in answer.stderr


def test_locked_refuses_unpinned_inputs(image_config: Path) -> None:
    line = error_line(
        invoke("build", "--locked", "-D", "a1111.sources.clip.commit=null", config=image_config)
    )
    assert "source clip" in line
    assert "invoke pin" in line

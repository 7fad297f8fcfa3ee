"""The build's ID: equal for equal inputs, another for every change of the image."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.host.build.build_id import COPIED, LOCKS, compute_build_id
from scripts.host.build.buildx import build_command
from scripts.host.build.inputs import BuildOptions, resolve
from scripts.host.config.load import ROOT, load


def id_of(*define: str, root: Path = ROOT, variant: str = "cuda128") -> str:
    return compute_build_id(replace(resolve(load(variant, define)), root=root))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the Dockerfile reads, in another place, readable by its owner only."""
    for name in ("Dockerfile", "scripts", "requirements"):
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        place(ROOT / name, tmp_path / name)
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return tmp_path


@pytest.mark.parametrize(
    "define",
    [
        "image.repository=host:5000/me/worker",
        "image.tags=[other]",
        "mirrors.registry=host:5000",
        "mirrors.github=http://127.0.0.1:9/git",
        "mirrors.huggingface=http://127.0.0.1:9",
        "mirrors.apt=http://127.0.0.1:9/debian",
        "store.path=/elsewhere",
        "build.builder=remote",
    ],
)
def test_tags_mirrors_and_local_paths_do_not_count(define: str) -> None:
    assert id_of(define) == id_of()


@pytest.mark.parametrize(
    "define",
    [
        "webui.flags.add=[--medvram]",
        "webui.settings={tiling: true}",
        "a1111.sources.blip.commit=" + "a" * 40,
        "base.runtime=pytorch/pytorch:other",
        "image.labels={a: b}",
        "features=[previews]",
    ],
)
def test_what_decides_the_image_counts(define: str) -> None:
    assert id_of(define) != id_of()


def test_a_copy_elsewhere_has_the_same_id_until_a_copied_file_changes(copy: Path) -> None:
    assert id_of(root=copy) == id_of()
    (copy / "scripts" / "host" / "console.py").write_text("")
    cached = copy / "scripts" / "common" / "__pycache__" / "x.pyc"
    cached.parent.mkdir(exist_ok=True)
    cached.write_text("")
    assert id_of(root=copy) == id_of()
    (copy / "scripts" / "container" / "log.py").write_text("")
    assert id_of(root=copy) != id_of()


def test_every_file_that_the_dockerfile_reads_counts() -> None:
    text = (ROOT / "Dockerfile").read_text()
    read = set(re.findall(r"(?:source=|^COPY )((?:scripts|requirements)/[\w./-]+)", text, re.M))
    assert {"scripts/common", "scripts/image/compile", "requirements/tools.txt"} <= read
    places = (*COPIED, *LOCKS)
    unseen = {each for each in read if not any(each.startswith(place) for place in places)}
    assert unseen == set()


def test_the_build_passes_its_id() -> None:
    command = build_command(resolve(load()), BuildOptions(), {}, [])
    assert f"--build-arg=BUILD_ID={id_of()}" in command

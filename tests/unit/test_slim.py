"""`slim.py` deletes unused files of an environment, and the rest still works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from scripts.host.config.load import ROOT


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment with packages, their tests and other files."""
    packages = tmp_path / "lib/python3.11/site-packages"
    for name, text in {
        "shop/__init__.py": "OPEN = True",
        "shop/tests/test_shop.py": "import shop",
        "shop/page.js": "1",
        "shop/page.js.map": "{}",
        "botocore/data/s3/service.json": "{}",
        "botocore/data/ec2/service.json": "{}",
        "botocore/data/endpoints.json": "{}",
        "old/python2.py": "raise exc, None, tb",
        "transformers/models/clip/model.py": "1",
        "transformers/models/whisper/model.py": "1",
    }.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def slim(venv: Path) -> Path:
    """Run `slim.py`, and return the packages' folder."""
    run = [sys.executable, str(ROOT / "scripts/image/slim.py"), str(venv)]
    subprocess.run(run, check=True, capture_output=True, timeout=60)
    return venv / "lib/python3.11/site-packages"


def test_only_test_suites_source_maps_and_services_are_deleted(venv: Path) -> None:
    packages = slim(venv)
    kept = {str(p.relative_to(packages)) for p in packages.rglob("*") if p.suffix != ".pyc"}
    files = {name for name in kept if (packages / name).is_file()}
    assert files == {
        "shop/__init__.py",
        "shop/page.js",
        "botocore/data/s3/service.json",
        "botocore/data/endpoints.json",
        "old/python2.py",
        "transformers/models/clip/model.py",
        "transformers/models/whisper/model.py",
    }


def test_modules_imported_at_start_are_compiled(venv: Path) -> None:
    compiled = {path.parent.parent.name for path in slim(venv).rglob("*.pyc")}
    assert compiled == {"shop", "clip"}


def test_a_stripped_library_is_smaller_and_still_works(venv: Path) -> None:
    found = Path(sysconfig.get_path("platlib")) / "yaml"
    [library] = found.glob("_yaml*.so")
    copy = venv / "lib/python3.11/site-packages/yaml"
    shutil.copytree(found, copy)
    packages = slim(venv)
    assert (copy / library.name).stat().st_size < library.stat().st_size - 100_000
    code = "import yaml; print(yaml.load('[1, {a: b}]', yaml.CSafeLoader), yaml.__file__)"
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == f"[1, {{'a': 'b'}}] {copy}/__init__.py"


@pytest.mark.parametrize(
    "content",
    [b"", b"#!/bin/sh\n" + bytes(300_000), b"\x7fELF" + bytes(300_000)],
    ids=["empty", "a script", "a broken header"],
)
def test_files_that_are_no_libraries_are_unchanged(venv: Path, content: bytes) -> None:
    odd = venv / "lib/python3.11/site-packages/odd.so.1"
    odd.write_bytes(content)
    slim(venv)
    assert odd.read_bytes() == content

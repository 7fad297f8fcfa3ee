"""Packages come from a mirror or from a snapshot, and the image's sources stay unchanged."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from tests.support.apt_archive import VERSIONS, AptArchive
from tests.support.images import debian_root
from tests.support.running import copy_of_the_checkout, error_line, invoke, output
from tests.support.serving import running

pytestmark = pytest.mark.engine

DAY = min(VERSIONS)
DEBIAN = """
deb [trusted=yes] http://deb.debian.org/debian bookworm main
deb [trusted=yes] http://security.debian.org/debian-security bookworm-security main
"""
UBUNTU = """
deb [trusted=yes] http://archive.ubuntu.com/ubuntu/ jammy main universe
deb [trusted=yes] http://security.ubuntu.com/ubuntu/ jammy-security main
"""
ELSEWHERE = """
deb http://deb.example/debian bookworm main
deb [trusted=yes] https://deb.example/debian bookworm-updates main
deb http://security.example/debian-security bookworm-security main
"""
_RUN = """
printf %s "$SOURCES" >/etc/apt/sources.list
rm -rf /etc/apt/sources.list.d
/build/apt-install tini --files-of libgl1 2>&1 || echo failed
printf %s "$SOURCES" | cmp - /etc/apt/sources.list
"""
_SHOW = """
dpkg-query -W tini
cat /usr/share/tini /usr/share/libgl1 /var/lib/dpkg/status.d/libgl1
"""


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[AptArchive]:
    server = AptArchive(tmp_path / "archive")
    with running(server):
        yield server


def install(sources: str, script: str = _RUN, **environment: str) -> str:
    """Run apt-install in a container with other sources; return what it prints."""
    shown: bytes = client().containers.run(
        debian_root(),
        ["bash", "-ec", script],
        environment={"SOURCES": sources, "no_proxy": "127.0.0.1", **environment},
        volumes=[f"{ROOT}/scripts/image:/build:ro"],
        network_mode="host",
        remove=True,
    )
    return shown.decode()


@pytest.mark.parametrize("prefix", ["/a/debian", "/ubuntu", ""])
def test_the_mirror_serves_every_list_and_sources_are_unchanged(
    archive: AptArchive, prefix: str
) -> None:
    shown = install(ELSEWHERE, APT_MIRROR=f"{archive.url}{prefix}")
    assert shown.endswith("failed\n")  # the mirror has nothing
    beside = prefix.removesuffix("/debian")
    assert archive.lists == {
        *(f"{prefix}/dists/bookworm", f"{prefix}/dists/bookworm-updates"),
        f"{beside}/debian-security/dists/bookworm-security",
    }


@pytest.mark.parametrize(
    ("sources", "lists"),
    [
        (
            DEBIAN,
            {
                f"http://snapshot.debian.org/archive/debian/{DAY}/dists/bookworm",
                f"http://snapshot.debian.org/archive/debian-security/{DAY}/dists/bookworm-security",
            },
        ),
        (
            UBUNTU,
            {
                f"http://snapshot.ubuntu.com/ubuntu/{DAY}/dists/jammy",
                f"http://snapshot.ubuntu.com/ubuntu/{DAY}/dists/jammy-security",
            },
        ),
    ],
    ids=["debian", "ubuntu"],
)
def test_a_snapshot_is_of_the_distributions_own_archive(
    archive: AptArchive, sources: str, lists: set[str]
) -> None:
    shown = install(sources, _RUN + _SHOW, APT_SNAPSHOT=DAY, http_proxy=archive.url)
    assert f"tini\t1.0\n{DAY}{DAY}Package: libgl1\nVersion: 1.0\n" in shown, shown
    assert archive.lists == lists


def test_a_mirror_of_snapshots_serves_every_list(archive: AptArchive) -> None:
    day = max(VERSIONS)
    mirror = f"{archive.url}/of/debian/{day}"
    shown = install(
        ELSEWHERE.replace("deb http", "deb [trusted=yes] http"),
        _RUN + _SHOW,
        APT_SNAPSHOT=day,
        APT_MIRROR=mirror,
    )
    assert "tini\t2.0" in shown, shown
    assert f"/of/debian-security/{day}/dists/bookworm-security" in archive.lists


@pytest.mark.parametrize(
    ("sources", "day", "reason"),
    [
        (
            DEBIAN,
            "20250101T000000Z",
            "http://snapshot.debian.org/archive/debian/20250101T000000Z does not answer",
        ),
        (ELSEWHERE, DAY, "the base's sources name neither Debian's archive nor Ubuntu's"),
    ],
    ids=["of no such day", "of another archive"],
)
def test_a_snapshot_that_cannot_be_had_is_an_error(
    archive: AptArchive, sources: str, day: str, reason: str
) -> None:
    shown = install(sources, APT_SNAPSHOT=day, http_proxy=archive.url)
    assert f"apt-install: no snapshot {day}: {reason}\nfailed\n" in shown, shown


@pytest.fixture
def checkout(tmp_path: Path, image_config: Path, model_store: Path) -> Path:
    """A checkout with everything pinned, whose image is Debian with one package."""
    root = copy_of_the_checkout(tmp_path / "checkout")
    sources = "deb [trusted=yes] http://deb.debian.org/debian bookworm main"
    lines = (
        f"FROM {debian_root()} AS build_final_image",
        *("ARG APT_MIRROR", "ARG APT_SNAPSHOT"),
        "RUN --mount=type=bind,source=scripts/image/apt-install,target=/build/apt-install \\",
        f"    echo '{sources}' >/etc/apt/sources.list && /build/apt-install tini",
    )
    (root / "Dockerfile").write_text("\n".join(lines))
    in_checkout(root, image_config, model_store, "pin", "--variant", "cuda128")
    lock = root / "config.lock.yaml"
    lock.write_text(re.sub(r"(?<=snapshot: )\w+", DAY, lock.read_text()))
    return root


def in_checkout(
    root: Path, config: Path, store: Path, *command: str, mirror: str = "null"
) -> subprocess.CompletedProcess[str]:
    """Run a task where both bases have digests, though they are in no registry."""
    pinned = [f"base.{name}=a/b@sha256:{'0' * 64}" for name in ("download", "runtime")]
    values = [f"--define={value}" for value in (*pinned, f"mirrors.apt={mirror}")]
    return invoke(*command, *values, config=config, root=root, MODELS_STORE=str(store))


def build(
    root: Path, config: Path, store: Path, mirror: str, *options: str
) -> tuple[str, dict[str, object]]:
    """Build in a checkout; return the errors' text, and the report or nothing."""
    answer = in_checkout(root, config, store, "build", *options, mirror=mirror)
    if answer.returncode:
        return error_line(answer), {}
    return answer.stderr, json.loads((root / "reports/build.json").read_text())


def test_a_build_takes_the_packages_of_the_locked_day(
    checkout: Path, image_config: Path, model_store: Path, archive: AptArchive
) -> None:
    mirror = f"{archive.url}/debian/{{snapshot}}"
    shown, report = build(checkout, image_config, model_store, mirror, "--locked")
    assert report, shown
    assert "tini\t1.0" in output(str(report["image_id"]), "dpkg-query", "-W", "tini")
    assert report["unpinned"] == []


def test_a_build_without_its_snapshot_warns_and_a_locked_one_fails(
    checkout: Path, image_config: Path, model_store: Path, archive: AptArchive
) -> None:
    mirror = f"{archive.url}/none/{{snapshot}}"
    shown, _ = build(checkout, image_config, model_store, mirror, "--locked")
    assert "snapshot-unreachable" in shown
    shown, report = build(checkout, image_config, model_store, mirror)
    assert "building with the packages of today" in shown
    assert report["unpinned"] == ["system packages"]
    assert "tini\t0.19" in output(str(report["image_id"]), "dpkg-query", "-W", "tini")

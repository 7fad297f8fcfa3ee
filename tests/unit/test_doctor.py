"""`invoke doctor`: facts are judged by the rules, and sources are asked over a real connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.check_result import CheckResult, format_results
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.device import Driver, Gpu
from scripts.common.gpu.torch_facts import TorchFacts
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.doctor import mirrors
from scripts.host.doctor.doctor_checks import as_json, refuse_failures, run_checks
from scripts.host.doctor.doctor_facts import Disk, Facts, Mirror
from scripts.host.doctor.gather import (
    has_toolkit,
    insecure_registries,
    nearest,
    read_driver,
    unwritable,
)
from scripts.host.doctor.mirrors import Probe
from scripts.host.engine import client
from tests.support.nvml import library, needs_compiler, no_driver
from tests.support.serving import Quiet, Server, running
from tests.support.tls import serve_tls

ADA = Driver("570.86.15", (12, 8), (Gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 49140 << 20),))

HEALTHY = Facts(
    accelerator="cuda",
    targets=((8, 9),),
    engine="26.1.5",
    buildx="0.13",
    engine_trouble=None,
    disks=(Disk("/store", free=50_000_000_000, needed=2_000_000_000),),
    driver=ADA,
    driver_trouble="",
    has_toolkit=True,
    image="example/worker:v1",
    torch=TorchFacts(cuda="12.8", archs=("sm_80", "sm_86", "compute_120")),
    torch_trouble="",
    mirrors=(Mirror("github", ("https://github.com",)),),
    unpinned=(),
    packages="requirements/cuda128.txt",
    has_packages=True,
    store="/store",
    store_trouble="",
)


def findings(facts: Facts) -> dict[str, str]:
    """Code of every finding, by check."""
    return {each.name: f"{each.level} {each.code}" for each in run_checks(facts) if each.code}


def test_a_healthy_machine_has_nothing_to_cure() -> None:
    verdicts = run_checks(HEALTHY)
    assert {each.outcome for each in verdicts} == {"passed"}
    refuse_failures(verdicts)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"engine": "", "buildx": "", "engine_trouble": UserError("no socket")},
            {"engine": "fail engine-missing"},
        ),
        (
            {"buildx": "", "engine_trouble": UserError("buildx v0.9 is too old")},
            {"buildx": "fail buildx-missing"},
        ),
        ({"disks": (Disk("/d", free=1, needed=2),)}, {"disk": "fail disk-low"}),
        ({"disks": (Disk("/d", free=3, needed=2, allowance=2),)}, {"disk": "warn disk-low"}),
        ({"store_trouble": "Read-only file system"}, {"store": "fail store-unwritable"}),
        ({"has_packages": False}, {"packages": "fail packages-unlocked"}),
        ({"unpinned": ("model x",)}, {"pins": "warn unpinned"}),
        (
            {"mirrors": (Mirror("github", ("u",), ("u: 404",)),)},
            {"mirrors.github": "fail mirror-unreachable"},
        ),
        ({"driver": None, "driver_trouble": "there is none"}, {"gpu": "warn gpu-not-here"}),
        ({"has_toolkit": False}, {"toolkit": "fail toolkit-missing"}),
        ({"driver": replace(ADA, cuda=(11, 8))}, {"driver": "fail driver-too-old"}),
        ({"driver": replace(ADA, cuda=(12, 4))}, {"driver": "warn driver-older"}),
        ({"torch": TorchFacts(cuda="12.8", archs=("sm_90",))}, {"image": "fail no-kernel-image"}),
        ({"torch": TorchFacts(cuda="", archs=())}, {"image": "fail no-kernel-image"}),
        ({"torch": None, "image": ""}, {"image": "warn image-unknown"}),
    ],
)
def test_each_trouble_is_found_once_and_by_its_name(
    change: dict[str, Any], expected: dict[str, str]
) -> None:
    assert findings(replace(HEALTHY, **change)) == expected


def test_a_newer_driver_than_the_images_cuda_is_fine() -> None:
    assert findings(replace(HEALTHY, driver=replace(ADA, cuda=(13, 0)))) == {}


def test_the_gpus_of_the_config_are_judged_on_a_machine_that_has_none() -> None:
    blackwell = replace(
        HEALTHY, driver=None, targets=((10, 0),), torch=TorchFacts(cuda="12.8", archs=("sm_90",))
    )
    assert findings(blackwell)["image"] == "fail no-kernel-image"


def test_an_image_for_the_cpu_asks_for_no_gpu() -> None:
    bare = replace(HEALTHY, accelerator="cpu", driver=None, has_toolkit=False, torch=None)
    assert not {"gpu", "toolkit", "driver", "image"} & {each.name for each in run_checks(bare)}


def test_each_finding_shows_its_cure_and_failures_are_named() -> None:
    verdicts = run_checks(replace(HEALTHY, has_toolkit=False, unpinned=("model x",)))
    text = format_results(verdicts)
    assert f"{diagnostics()['toolkit-missing'].hint} [toolkit-missing]" in text
    assert "warn  pins" in text
    with pytest.raises(UserError, match="not fit: toolkit"):
        refuse_failures(verdicts)


def test_on_a_narrow_terminal_a_line_goes_on_below_its_own_text() -> None:
    address = "https://example.org/" + 30 * "x"
    verdicts = [
        CheckResult("mirrors.github", "failed", f"{address}: no route", "mirror-unreachable")
    ]
    lines = format_results(verdicts, 60).splitlines()
    start = len("fail  mirrors.github  ")
    assert lines[0] == f"fail  mirrors.github  {address}:"
    assert all(line[:start].isspace() and len(line) <= 60 for line in lines[1:])
    flat = " ".join(line.strip() for line in lines)
    assert flat == " ".join(line.strip() for line in format_results(verdicts).splitlines())


def test_warnings_alone_are_no_failure() -> None:
    refuse_failures([CheckResult("pins", "warned", "model x", "unpinned")])


def test_programs_read_level_code_and_cure() -> None:
    rows = {
        row["check"]: row for row in json.loads(as_json(run_checks(replace(HEALTHY, buildx=""))))
    }
    assert rows["buildx"]["level"] == "fail"
    assert rows["buildx"]["cure"] == diagnostics()["buildx-missing"].hint
    assert rows["engine"] == {**rows["engine"], "level": "ok", "code": "", "cure": ""}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, True),
        ({"Runtimes": {"runc": {}}}, False),
        ({"Runtimes": None, "CDISpecDirs": None}, False),
    ],
)
def test_the_engine_says_whether_it_can_give_gpus(
    info: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert has_toolkit(info) is expected


def test_a_device_interface_of_nvidia_counts_as_toolkit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_toolkit({"CDISpecDirs": [str(tmp_path)]})
    (tmp_path / "nvidia.yaml").touch()
    assert has_toolkit({"CDISpecDirs": [str(tmp_path)]})


def test_a_store_that_is_not_made_yet_is_judged_by_the_folder_above(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "models" / "deep") == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file") == "Not a directory"


def test_a_store_in_a_folder_of_somebody_else_is_judged_and_no_crash(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    (locked / "a").mkdir(parents=True)
    locked.chmod(0)
    tmp_path.chmod(0o755)
    was = os.geteuid()
    try:
        if was == 0:
            os.seteuid(65534)  # root may look everywhere
        assert nearest(locked / "a" / "models") != locked / "a"
        assert unwritable(locked / "a" / "models") == "Permission denied"
    finally:
        if was == 0:
            os.seteuid(0)
        locked.chmod(0o700)


def test_without_an_engine_the_rest_is_still_examined_and_it_ends_in_one_line(
    tmp_path: Path,
) -> None:
    nowhere = "http://127.0.0.1:1"  # a port that refuses
    settings = {"registry": "127.0.0.1:1", "python": nowhere, "github": nowhere}
    config = {"mirrors": {**settings, "huggingface": nowhere}, "build": {"requirements": "absent"}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    env = {**os.environ, "IMAGE_CONFIG": str(tmp_path / "config.yaml"), "no_proxy": "127.0.0.1"}
    env |= {"DOCKER_HOST": f"unix://{tmp_path}/absent.sock", "MODELS_STORE": str(tmp_path / "m")}
    words = [sys.executable, "-m", "invoke", "doctor", "--json"]

    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    rows = {row["check"]: (row["level"], row["code"]) for row in json.loads(done.stdout)}
    assert rows["engine"] == ("fail", "engine-missing")
    assert rows["packages"] == ("fail", "packages-unlocked")
    assert rows["mirrors.github"] == ("fail", "mirror-unreachable")
    assert rows["store"] == ("ok", "")
    assert done.returncode == 1
    assert done.stderr.startswith("error: not fit: engine, packages, mirrors.")
    assert done.stderr.splitlines()[1:] == ["hint: see the lines above"]


# --- the driver -----------------------------------------------------------------------------------


@pytest.fixture
def driver_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose libnvidia-ml.so.1 is the driver's."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    return tmp_path


@needs_compiler
def test_the_driver_is_asked_for_its_gpus_and_its_cuda(driver_folder: Path) -> None:
    library(driver_folder)
    found, trouble = read_driver()
    assert found
    assert (found.version, found.cuda, trouble) == ("570.124.06", (12, 8), "")
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA RTX 6000 Ada Generation"]


@needs_compiler
def test_a_driver_that_fails_gives_its_reason(driver_folder: Path) -> None:
    library(driver_folder, init=18)
    found, trouble = read_driver()
    assert found is None
    assert "version mismatch" in trouble


@needs_compiler
def test_a_driver_without_gpus_is_a_machine_without_one(driver_folder: Path) -> None:
    library(driver_folder, count=0)
    found, _ = read_driver()
    assert findings(replace(HEALTHY, driver=found))["gpu"] == "warn gpu-not-here"


def test_no_driver_is_no_error(driver_folder: Path) -> None:
    no_driver(driver_folder)
    assert read_driver() == (None, "no NVIDIA driver: libnvidia-ml.so.1 cannot be loaded")


# --- outside sources ------------------------------------------------------------------------------


class Statuses(Quiet):
    """Answers `/404` with 404, and so on."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Answer with the status that the path names."""
        self.answer(int(self.path.strip("/").partition("?")[0].partition("/")[0]))


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Server(("127.0.0.1", 0), Statuses)) as server:
        yield server.url


def test_a_source_that_serves_is_fine(url: str) -> None:
    assert mirrors.trouble(Probe("github", f"{url}/200")) == ""


def test_a_registry_that_wants_a_login_is_reached(url: str) -> None:
    assert mirrors.trouble(Probe("registry", f"{url}/401", (401, 403))) == ""


def test_a_repository_that_is_gone_is_told_with_its_address(url: str) -> None:
    probe = Probe("github", f"{url}/404/info/refs?service=git-upload-pack")
    assert mirrors.trouble(probe) == f"{url}/404: 404 Not Found"


def test_a_host_that_is_down_is_told() -> None:
    with running(Server(("127.0.0.1", 0), Statuses)) as stopped:
        gone = stopped.url
    assert "refused" in mirrors.trouble(Probe("python", f"{gone}/200"))


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadedConfig]:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return lambda *define: load(define=define, root=tmp_path)


def test_every_mirror_setting_changes_where_is_asked(loaded: Callable[..., LoadedConfig]) -> None:
    settings = ("github", "huggingface", "pytorch", "python", "apt", "apk")
    define = [f"mirrors.{name}=http://{name}.invalid/x" for name in settings]
    asked = mirrors.probes(loaded(*define, "mirrors.registry=registry.invalid"))
    for probe in asked:
        assert probe.url.split("/")[2] == f"{probe.setting}.invalid"
    assert {probe.setting for probe in asked} == {*settings, "registry"}


def test_docker_hub_is_asked_by_the_name_that_its_registry_has(
    loaded: Callable[..., LoadedConfig],
) -> None:
    written = loaded("base.download=docker.io/alpine/git:2", "base.runtime=debian:12")
    asked = {probe.url for probe in mirrors.probes(written) if probe.setting == "registry"}
    assert asked == {"https://registry-1.docker.io/v2/"}


def test_base_images_that_the_engine_has_need_no_registry(
    loaded: Callable[..., LoadedConfig],
) -> None:
    config = loaded().config
    local = frozenset({config.base.download, config.base.runtime})
    assert not [probe for probe in mirrors.probes(loaded(), local) if probe.setting == "registry"]


def test_every_source_repository_is_asked_for(loaded: Callable[..., LoadedConfig]) -> None:
    asked = [probe.url for probe in mirrors.probes(loaded()) if probe.setting == "github"]
    assert len(asked) == len(loaded().config.a1111.sources)


def test_answers_are_one_row_a_setting() -> None:
    asked = (
        Probe("github", "https://a/x"),
        Probe("python", "https://b/y"),
        Probe("github", "https://a/z"),
    )
    assert mirrors.grouped(asked, ("", "", "https://a/z: 404")) == (
        Mirror("github", ("https://a",), ("https://a/z: 404",)),
        Mirror("python", ("https://b",)),
    )


def test_a_ca_bundle_that_is_not_there_is_told_beside_the_rest(
    loaded: Callable[..., LoadedConfig], url: str
) -> None:
    everywhere = [f"mirrors.{name}={url}/200" for name in ("github", "huggingface", "python")]
    words = (*everywhere, "mirrors.registry=127.0.0.1:1", "mirrors.ca_bundle=absent.pem")
    bundle, *others = mirrors.reach(loaded(*words), ())
    missing = diagnostics()["ca-bundle-unusable"].message
    assert bundle == Mirror("ca_bundle", (), (f"absent.pem: {missing}",))
    troubled = {mirror.setting for mirror in others if mirror.troubles}
    assert (len(others), troubled) == (4, {"registry"})
    verdicts = run_checks(replace(HEALTHY, mirrors=(bundle,)))
    assert [each.code for each in verdicts if each.code] == ["ca-bundle-unusable"]


def test_an_untrusted_certificate_points_at_the_bundle_that_cures_it(
    loaded: Callable[..., LoadedConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Server(("127.0.0.1", 0), Statuses)) as server:
        cert = serve_tls(server, tmp_path)
        words = [f"mirrors.python={server.url.replace('http:', 'https:')}/200"]
        unknown = reached(loaded(*words), "python")
        cured = reached(loaded(*words, f"mirrors.ca_bundle={cert}"), "python")
    [verdict] = [each for each in run_checks(replace(HEALTHY, mirrors=(unknown,))) if each.code]
    assert verdict.code == "certificate"
    assert "self-signed" in verdict.evidence.replace("self signed", "self-signed")
    assert cured.troubles == ()


def reached(loaded: LoadedConfig, setting: str) -> Mirror:
    """One setting's row."""
    [row] = [each for each in mirrors.reach(loaded, ()) if each.setting == setting]
    return row


def test_a_source_that_never_finishes_its_answer_does_not_hold_the_rest(
    loaded: Callable[..., LoadedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mirrors, "_PATIENCE", 1.0)
    with running(Server(("127.0.0.1", 0), Dripping)) as server:
        began = time.monotonic()
        row = reached(loaded(f"mirrors.python={server.url}"), "python")
        assert time.monotonic() - began < 5
        Dripping.ended.set()
    assert row.troubles == (f"{server.url}/setuptools/: no answer within 1 s",)


class Dripping(Quiet):
    """Sends a byte now and then, so that no read ever waits long."""

    ended = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Begin a header that has no end."""
        while not self.ended.wait(0.1):
            self.wfile.write(b"H")


def test_a_host_that_is_no_name_is_told() -> None:
    assert mirrors.trouble(Probe("python", "http://a..example/simple/")).startswith("http://a..")


def test_an_apt_mirror_that_wants_a_password_does_not_serve(
    loaded: Callable[..., LoadedConfig], url: str
) -> None:
    assert reached(loaded(f"mirrors.apt={url}/401"), "apt").troubles == (
        f"{url}/401/: 401 Unauthorized",
    )
    assert reached(loaded(f"mirrors.apt={url}/404"), "apt").troubles == ()  # may list nothing


@pytest.mark.parametrize(
    ("prefix", "asked"),
    [
        ("registry.example/a/b", "https://registry.example/v2/"),
        ("plain.example:5000", "http://plain.example:5000/v2/"),
        ("127.0.0.2:5000", "http://127.0.0.2:5000/v2/"),
        ("[::1]:5000/a", "http://[::1]:5000/v2/"),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/v2/"),
    ],
)
def test_a_registry_is_asked_as_the_engine_asks_it(
    loaded: Callable[..., LoadedConfig], prefix: str, asked: str
) -> None:
    info = {
        "RegistryConfig": {
            "IndexConfigs": {"docker.io": {"Secure": True}, "plain.example:5000": {"Secure": False}}
        }
    }
    config = loaded(f"mirrors.registry={prefix}")
    found = mirrors.probes(config, (), insecure_registries(info))
    assert {probe.url for probe in found if probe.setting == "registry"} == {asked}


def test_an_engine_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", 1)
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match=r"docker info. did not finish within 1 s") as caught:
        client.probe()
    assert caught.value.code == "engine-missing"

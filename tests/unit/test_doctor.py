"""`invoke doctor`: each check judges its facts, and sources are requested over real connections."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.checks.check import CheckResult, format_results
from scripts.common.diagnostics.error import UserError
from scripts.common.diagnostics.table import diagnostics
from scripts.common.gpu.gpu_facts import Driver, Gpu, TorchFacts
from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from scripts.host.doctor import doctor_checks, outside_sources
from scripts.host.doctor.doctor_checks import as_json, refuse_failures
from scripts.host.doctor.doctor_facts import Disk, EngineFacts, nearest, read_disks, read_driver
from scripts.host.doctor.outside_sources import Request, find_indexes, judge_answers, plan_requests
from scripts.host.engine import client
from tests.support.nvml import library, needs_compiler, no_driver
from tests.support.running import error_line, invoke
from tests.support.serving import Quiet, Server, running
from tests.support.tls import serve_tls

Resolve = Callable[..., BuildInputs]

ADA = Driver("570.86.15", (12, 8), (Gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 49140 << 20),))
ENGINE = EngineFacts("26.1.5", "0.13", info={"Runtimes": {"nvidia": {}}})
NO_ENGINE = EngineFacts(error="no socket")
GONE = UserError("404 Not Found", location="https://a/z", code="mirror-unreachable")
GITHUB = Request("github", "https://github.com/a/b")


IMAGE = "example/worker:v1"


def torch(cuda: str, *archs: str) -> TorchFacts:
    return TorchFacts(cuda=cuda, archs=archs)


NO_TORCH = TorchFacts(error="not built yet")
TORCH = torch("12.8", "sm_80", "sm_86", "compute_120")
OLD_BUILDX = EngineFacts("26.1.5", error="buildx v0.9 is too old")
TOOLKIT_MISSING = "toolkit: fail toolkit-missing"
DRIVER_OLDER, DRIVER_TOO_OLD = "driver: warn driver-older", "driver: fail driver-too-old"


def outcome(result: CheckResult) -> str:
    return f"{result.name}: {result.level} {result.code}".strip()


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (doctor_checks.check_engine(ENGINE), "engine: ok"),
        (doctor_checks.check_engine(NO_ENGINE), "engine: fail engine-missing"),
        (doctor_checks.check_disk(Disk("/d", free=9, needed=2)), "disk: ok"),
        (doctor_checks.check_disk(Disk("/d", free=1, needed=2)), "disk: fail disk-low"),
        (
            doctor_checks.check_disk(Disk("/d", free=3, needed=2, allowance=2)),
            "disk: warn disk-low",
        ),
        (doctor_checks.check_packages("requirements/cuda128.txt", ""), "packages: ok"),
        (
            doctor_checks.check_packages("absent", "absent is missing"),
            "packages: fail packages-unlocked",
        ),
        (doctor_checks.check_pins(()), "pins: ok"),
        (doctor_checks.check_pins(("model x",)), "pins: warn unpinned"),
        (*judge_answers({GITHUB: None}), "mirrors.github: ok"),
        (*judge_answers({GITHUB: GONE}), "mirrors.github: fail mirror-unreachable"),
        (doctor_checks.check_gpu(ADA, ""), "gpu: ok"),
        (doctor_checks.check_gpu(None, "there is none"), "gpu: warn gpu-not-here"),
        (doctor_checks.check_image(IMAGE, TORCH, ADA, ()), "image: ok"),
        (
            doctor_checks.check_image(IMAGE, torch("12.8", "sm_90"), ADA, ()),
            "image: fail no-kernel-image",
        ),
        (doctor_checks.check_image(IMAGE, torch(""), ADA, ()), "image: fail no-kernel-image"),
        (  # the GPUs of the config count on a machine without one
            doctor_checks.check_image(IMAGE, torch("12.8", "sm_90"), None, ((10, 0),)),
            "image: fail no-kernel-image",
        ),
        (doctor_checks.check_image("", NO_TORCH, ADA, ()), "image: warn image-unknown"),
    ],
)
def test_each_check_judges_its_facts(result: CheckResult, expected: str) -> None:
    assert outcome(result) == expected


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (doctor_checks.check_buildx(ENGINE), ["buildx: ok"]),
        (doctor_checks.check_buildx(OLD_BUILDX), ["buildx: fail buildx-missing"]),
        (doctor_checks.check_buildx(NO_ENGINE), []),
        (doctor_checks.check_toolkit(ADA, ENGINE), ["toolkit: ok"]),
        (doctor_checks.check_toolkit(ADA, replace(ENGINE, info={})), [TOOLKIT_MISSING]),
        (doctor_checks.check_toolkit(None, ENGINE), []),
        (doctor_checks.check_toolkit(ADA, NO_ENGINE), []),
        (doctor_checks.check_driver(ADA, TORCH), ["driver: ok"]),
        (doctor_checks.check_driver(replace(ADA, cuda=(13, 0)), TORCH), ["driver: ok"]),
        (doctor_checks.check_driver(replace(ADA, cuda=(12, 4)), TORCH), [DRIVER_OLDER]),
        (doctor_checks.check_driver(replace(ADA, cuda=(11, 8)), TORCH), [DRIVER_TOO_OLD]),
        (doctor_checks.check_driver(ADA, NO_TORCH), []),
        (doctor_checks.check_driver(None, TORCH), []),
    ],
)
def test_check_without_its_facts_is_left_out(
    results: Iterator[CheckResult], expected: list[str]
) -> None:
    assert [outcome(result) for result in results] == expected


def test_failures_are_named_and_warnings_are_none() -> None:
    fail = doctor_checks.check_engine(NO_ENGINE)
    warn = doctor_checks.check_pins(("model x",))
    refuse_failures([warn])
    with pytest.raises(UserError, match="not fit: engine"):
        refuse_failures([fail, warn])


def test_table_shows_hints_and_folds_below_its_own_text() -> None:
    address = "https://example.org/" + 30 * "x"
    results = [
        CheckResult("mirrors.github", "failed", f"{address}: no route", "mirror-unreachable")
    ]
    lines = format_results(results, 60).splitlines()
    start = len("fail  mirrors.github  ")
    assert lines[0] == f"fail  mirrors.github  {address}:"
    assert all(line[:start].isspace() and len(line) <= 60 for line in lines[1:])
    flat = " ".join(line.strip() for line in lines)
    assert flat == " ".join(line.strip() for line in format_results(results).splitlines())
    assert f"{diagnostics()['mirror-unreachable'].hint} [mirror-unreachable]" in flat


def test_json_has_level_code_and_hint() -> None:
    engine, [buildx] = (
        doctor_checks.check_engine(OLD_BUILDX),
        doctor_checks.check_buildx(OLD_BUILDX),
    )
    rows = {row["check"]: row for row in json.loads(as_json([engine, buildx]))}
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
def test_engine_reports_whether_it_can_give_gpus(
    info: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert EngineFacts(info=info).has_toolkit is expected


def test_nvidia_device_interface_counts_as_toolkit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = EngineFacts(info={"CDISpecDirs": [str(tmp_path)]})
    assert not engine.has_toolkit
    (tmp_path / "nvidia.yaml").touch()
    assert engine.has_toolkit


def test_missing_store_is_judged_by_the_folder_above(tmp_path: Path) -> None:
    assert outcome(doctor_checks.check_store(tmp_path / "models" / "deep")) == "store: ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    result = doctor_checks.check_store(tmp_path / "file")
    assert outcome(result) == "store: fail store-unwritable"
    assert "Not a directory" in result.evidence


def test_store_in_a_locked_folder_fails_without_a_crash(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    (locked / "a").mkdir(parents=True)
    locked.chmod(0)
    tmp_path.chmod(0o755)
    was = os.geteuid()
    try:
        if was == 0:
            os.seteuid(65534)  # root may read everything
        assert nearest(locked / "a" / "models") != locked / "a"
        assert "Permission denied" in doctor_checks.check_store(locked / "a" / "models").evidence
    finally:
        if was == 0:
            os.seteuid(0)
        locked.chmod(0o700)


def test_without_engine_the_other_checks_still_run(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"  # a port that refuses
    settings = {"registry": "127.0.0.1:1", "python": nowhere, "github": nowhere}
    config = {"mirrors": {**settings, "huggingface": nowhere}, "build": {"requirements": "absent"}}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(config))

    done = invoke(
        *("doctor", "--json"),
        config=path,
        no_proxy="127.0.0.1",
        DOCKER_HOST=f"unix://{tmp_path}/absent.sock",
        MODELS_STORE=str(tmp_path / "m"),
    )

    rows = {row["check"]: (row["level"], row["code"]) for row in json.loads(done.stdout)}
    assert rows["engine"] == ("fail", "engine-missing")
    assert rows["packages"] == ("fail", "packages-unlocked")
    assert rows["mirrors.github"] == ("fail", "mirror-unreachable")
    assert rows["store"] == ("ok", "")
    [error, hint] = error_line(done).splitlines()
    named = error.removeprefix("error: not fit: ").split(", ")  # the disk too, where little is free
    assert {"engine", "packages", "mirrors.github"} <= {*named}
    assert hint == "hint: see the lines above"


# --- the driver -----------------------------------------------------------------------------------


@pytest.fixture
def driver_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose libnvidia-ml.so.1 is the driver's."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    return tmp_path


@needs_compiler
def test_driver_reports_its_gpus_and_cuda(driver_folder: Path) -> None:
    library(driver_folder)
    found, reason = read_driver()
    assert found
    assert (found.version, found.cuda, reason) == ("570.124.06", (12, 8), "")
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA RTX 6000 Ada Generation"]


@needs_compiler
def test_broken_driver_gives_its_reason(driver_folder: Path) -> None:
    library(driver_folder, init=18)
    found, reason = read_driver()
    assert found is None
    assert "version mismatch" in reason


@needs_compiler
def test_driver_without_gpus_is_a_machine_without_one(driver_folder: Path) -> None:
    library(driver_folder, count=0)
    assert outcome(doctor_checks.check_gpu(*read_driver())) == "gpu: warn gpu-not-here"


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


@pytest.mark.parametrize(
    ("path", "accepted", "error"),
    [
        ("200", (), ""),
        ("401", (401, 403), ""),
        ("404/info/refs?service=git-upload-pack", (), "{url}/404: 404 Not Found"),
    ],
)
def test_answer_is_judged_by_its_status(
    url: str, path: str, accepted: tuple[int, ...], error: str
) -> None:
    request = Request("github", f"{url}/{path}", accepted)
    assert lines(outside_sources.find_error(request)) == [error.format(url=url)] * bool(error)


def test_host_that_is_down_is_named() -> None:
    with running(Server(("127.0.0.1", 0), Statuses)) as stopped:
        gone = stopped.url
    assert "refused" in str(outside_sources.find_error(Request("python", f"{gone}/200")))


def test_host_with_an_impossible_name_is_named() -> None:
    request = Request("python", "http://a..example/simple/")
    assert lines(outside_sources.find_error(request))[0].startswith("http://a..")


def lines(*errors: UserError | None) -> list[str]:
    return [f"{error.location}: {error.message}" for error in errors if error]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Resolve this project's config with some values changed."""
    for name in ("IMAGE_CONFIG", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    return lambda *define: resolve(load(define=define, root=tmp_path))


def urls(inputs: BuildInputs, setting: str, *local: str) -> list[str]:
    return [each.url for each in plan_requests(inputs, local) if each.setting == setting]


@pytest.mark.parametrize(("scheme", "counts"), [("unix:///", True), ("ssh://", False)])
def test_disk_of_an_engine_elsewhere_is_not_measured_here(
    inputs: Resolve, tmp_path: Path, scheme: str, *, counts: bool
) -> None:
    info = {"DockerRootDir": str(tmp_path)}
    engine = EngineFacts("26.1.5", "0.13", info=info, address=f"{scheme}builder")
    folders = [disk.folder for disk in read_disks(inputs(), engine, needs_base=False)]
    assert (str(tmp_path) in folders) is counts


def test_every_mirror_setting_changes_where_is_asked(inputs: Resolve) -> None:
    files = ("googleapis", "openaipublic", "heibox")
    settings = ("github", "huggingface", "pytorch", "python", "apt", "apk", *files)
    define = [f"mirrors.{name}=http://{name}.invalid/x" for name in settings]
    features = "features=[interrogate, upscale-ldsr, faces]"
    requests = plan_requests(inputs(*define, features, "mirrors.registry=registry.invalid"))
    for request in requests:
        assert request.url.split("/")[2] == f"{request.setting}.invalid"
    assert {request.setting for request in requests} == {*settings, "registry"}


def test_docker_hub_is_asked_by_its_registrys_name(inputs: Resolve) -> None:
    bases = inputs("base.download=docker.io/alpine/git:2", "base.runtime=debian:12")
    assert urls(bases, "registry") == ["https://registry-1.docker.io/v2/"]


def test_local_base_images_need_no_registry(inputs: Resolve) -> None:
    found = inputs()
    local = found.download_base.reference, found.runtime_base.reference
    assert urls(found, "registry", *local) == []


def test_every_source_repository_is_requested(inputs: Resolve) -> None:
    assert len(urls(inputs(), "github")) == len(inputs().sources)
    extension = "extensions=[{repo: owner/one}]"
    address = "https://github.com/owner/one/info/refs?service=git-upload-pack"
    assert address in urls(inputs(extension), "github")


def test_package_indexes_are_those_of_uv_and_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.invalid/simple")
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.invalid/simple/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://extra.invalid/simple/")
    of_builds, *configured = find_indexes(None)
    assert of_builds not in configured
    assert configured == ["https://uv.invalid/simple", "https://pip.invalid/simple"]
    assert [*find_indexes("https://m.invalid")] == [
        "https://m.invalid",
        "https://pip.invalid/simple",
    ]


def test_password_of_an_index_is_never_shown(
    inputs: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:opensesame@127.0.0.1:1/simple")
    [request] = [each for each in plan_requests(inputs()) if "127.0.0.1" in each.url]
    [passed] = judge_answers({request: None})
    [failed] = judge_answers({request: outside_sources.find_error(request)})
    for result in (passed, failed):
        assert "http://127.0.0.1:1" in result.evidence
        assert "opensesame" not in result.evidence


def test_answers_are_grouped_by_setting() -> None:
    answers = {
        Request("github", "https://a/x"): None,
        Request("python", "https://b/y"): None,
        Request("github", "https://a/z"): GONE,
    }
    assert [*judge_answers(answers)] == [
        CheckResult("mirrors.github", "failed", "https://a/z: 404 Not Found", GONE.code),
        CheckResult("mirrors.python", "passed", "https://b"),
    ]


def test_missing_ca_bundle_is_shown_beside_the_rest(inputs: Resolve, url: str) -> None:
    everywhere = [f"mirrors.{name}={url}/200" for name in ("github", "huggingface", "python")]
    define = (*everywhere, "mirrors.registry=127.0.0.1:1", "mirrors.ca_bundle=absent.pem")
    bundle, *others = outside_sources.check_sources(inputs(*define), ())
    missing = diagnostics()["ca-bundle-unusable"].message
    assert outcome(bundle) == "mirrors.ca_bundle: fail ca-bundle-unusable"
    assert bundle.evidence == f"absent.pem: {missing}"
    failed = {each.name for each in others if each.outcome == "failed"}
    assert (len(others), failed) == (4, {"mirrors.registry"})


def test_untrusted_certificate_has_its_own_code_and_the_bundle_helps(
    inputs: Resolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Server(("127.0.0.1", 0), Statuses)) as server:
        cert = serve_tls(server, tmp_path)
        define = [f"mirrors.python={server.url.replace('http:', 'https:')}/200"]
        unknown = reached(inputs(*define), "python")
        trusted = reached(inputs(*define, f"mirrors.ca_bundle={cert}"), "python")
    assert unknown.code == "certificate"
    assert "self-signed" in unknown.evidence.replace("self signed", "self-signed")
    assert trusted.outcome == "passed"


def reached(inputs: BuildInputs, setting: str) -> CheckResult:
    """Send the requests of a build, and return one setting's result."""
    results = {each.name: each for each in outside_sources.check_sources(inputs, ())}
    return results[f"mirrors.{setting}"]


def test_answer_that_never_ends_does_not_hold_up_the_rest(
    inputs: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(outside_sources, "_DEADLINE", 1.0)
    with running(Server(("127.0.0.1", 0), Dripping)) as server:
        build = inputs(f"mirrors.python={server.url}")
        began = time.monotonic()
        row = reached(build, "python")
        assert time.monotonic() - began < 5
        Dripping.ended.set()
    assert row.evidence == f"{server.url}/setuptools/: no answer within 1 s"


class Dripping(Quiet):
    """Sends a byte now and then, so that no read ever waits long."""

    ended = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Begin a header that has no end."""
        while not self.ended.wait(0.1):
            self.wfile.write(b"H")


def test_apt_mirror_that_requires_a_password_fails(inputs: Resolve, url: str) -> None:
    locked = reached(inputs(f"mirrors.apt={url}/401"), "apt")
    assert locked.evidence == f"{url}/401/: 401 Unauthorized"
    may_list_nothing = reached(inputs(f"mirrors.apt={url}/404"), "apt")
    assert may_list_nothing.outcome == "passed"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("registry.example/a/b", "https://registry.example/v2/"),
        ("plain.example:5000", "http://plain.example:5000/v2/"),
        ("127.0.0.2:5000", "http://127.0.0.2:5000/v2/"),
        ("[::1]:5000/a", "http://[::1]:5000/v2/"),
        ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000/v2/"),
    ],
)
def test_registry_is_requested_with_tls_as_the_engine_does(
    inputs: Resolve, prefix: str, expected: str
) -> None:
    configs = {"docker.io": {"Secure": True}, "plain.example:5000": {"Secure": False}}
    engine = EngineFacts(info={"RegistryConfig": {"IndexConfigs": configs}})
    build = inputs(f"mirrors.registry={prefix}")
    requests = plan_requests(build, (), engine.insecure_registries)
    assert {each.url for each in requests if each.setting == "registry"} == {expected}


def test_silent_engine_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_TIMEOUT", 1)
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 30\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match=r"docker info. did not finish within 1 s") as caught:
        client.probe()
    assert caught.value.code == "engine-missing"

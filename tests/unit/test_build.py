"""The build: inputs, command line, progress and report."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.build_progress import BuildProgress, step_records
from scripts.host.build.buildx import build_command, build_error, prebuild_command
from scripts.host.build.image_labels import BASE_DIGEST_LABEL, BASE_NAME_LABEL
from scripts.host.build.inputs import (
    BuildInputs,
    BuildOptions,
    read_revision,
    resolve,
)
from scripts.host.build.lock_problem import find_lock_problem
from scripts.host.build.system_packages import apt_arguments
from scripts.host.config.load import ROOT, load
from scripts.host.config.lock import Lock, resolve_base
from scripts.host.reports.build_report import hit_ratio, layer_records

RUNTIME, DIGEST = "pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime", f"sha256:{'a' * 64}"


def shipped(*define: str, **lock: object) -> BuildInputs:
    """Resolve the shipped config with overrides and a given lock."""
    return resolve(replace(load("cuda128", define), lock=Lock.model_validate(lock)))


def test_dockerfile_defaults_equal_the_config() -> None:
    text = (ROOT / "Dockerfile").read_text()
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE))
    of_one_build = {
        *("VERSION", "REVISION", "CREATED", "BUILD_ID", "IMAGE_SMOKE"),
        *("CHECKPOINT_STAGE", "CHECKPOINT_SHA256", "CHECKPOINT_ADDRESS"),
    }
    expected = {
        name: re.sub(r"\$\{(\w+)\}", lambda other: defaults[other[1]], value)
        for name, value in defaults.items()
        if name not in of_one_build
    }
    assert shipped().arguments == expected


def test_flags_and_settings_are_baked_as_json() -> None:
    inputs = shipped(
        "webui.flags.add=['--lora-dir /my loras', --medvram-sdxl]",
        "webui.flags.remove=['--xformers']",
        "webui.settings={samples_format: jpg, CLIP_stop_at_last_layers: 2, tiling: false}",
    )
    flags = {"add": ["--lora-dir", "/my", "loras", "--medvram-sdxl"], "remove": ["--xformers"]}
    assert json.loads(inputs.arguments["IMAGE_FLAGS"]) == flags
    settings = '{"CLIP_stop_at_last_layers":2,"samples_format":"jpg","tiling":false}'
    assert inputs.arguments["IMAGE_SETTINGS"] == settings


@pytest.mark.parametrize(
    ("configured", "registry", "expected"),
    [
        ("alpine/git:2.43.0", None, "alpine/git:2.43.0"),
        ("alpine/git:2.43.0", "host:5000", "host:5000/alpine/git:2.43.0"),
        ("debian:12", "host:5000", "host:5000/library/debian:12"),
        ("docker.io/alpine/git:2.43.0", "host:5000/a", "host:5000/a/alpine/git:2.43.0"),
        ("docker.io/alpine/git:2.43.0", None, "docker.io/alpine/git:2.43.0"),
        ("quay.io/a/b:1", "host:5000", "quay.io/a/b:1"),
        ("localhost/a:1", "host:5000", "localhost/a:1"),
    ],
)
def test_registry_mirror_serves_docker_hubs_names(
    configured: str, registry: str | None, expected: str
) -> None:
    assert resolve_base(configured, Lock(), registry).reference == expected


def test_locked_digest_pins_a_base_image() -> None:
    inputs = shipped(images={"alpine/git:2.43.0": DIGEST})
    assert inputs.download_base.reference == f"alpine/git:2.43.0@{DIGEST}"
    assert not any("alpine" in phrase for phrase in inputs.unpinned)


@pytest.mark.parametrize(
    ("define", "images", "expected"),
    [
        ((), {}, {BASE_NAME_LABEL: RUNTIME}),
        ((), {RUNTIME: DIGEST}, {BASE_NAME_LABEL: RUNTIME, BASE_DIGEST_LABEL: DIGEST}),
        (
            (f"base.runtime={RUNTIME}@{DIGEST}",),
            {},
            {BASE_NAME_LABEL: RUNTIME, BASE_DIGEST_LABEL: DIGEST},
        ),
    ],
    ids=["unpinned", "locked", "configured"],
)
def test_labels_name_the_base_image(
    define: tuple[str, ...], images: dict[str, str], expected: dict[str, str]
) -> None:
    labels = shipped(*define, images=images).labels
    assert {name: value for name, value in labels.items() if ".base." in name} == expected


@pytest.mark.parametrize("variant", ["cpu", "cuda128", "a1111-v1.10.1", "cpu-a1111-v1.10.1"])
def test_each_variant_has_the_lock_of_its_release(variant: str) -> None:
    assert find_lock_problem(resolve(load(variant))) == ""


def test_a_lock_of_another_release_is_refused() -> None:
    problem = find_lock_problem(shipped("a1111.release=v1.10.1"))
    assert problem == "requirements/cuda128.txt is made for A1111 v1.9.3, not v1.10.1"


def test_unpinned_inputs_are_named() -> None:
    assert set(shipped("a1111.sources.blip.commit=null").unpinned) == {
        "base image alpine/git:2.43.0",
        f"base image {RUNTIME}",
        "source blip (salesforce/BLIP)",
        "model clip-tokenizer",
        "system packages",
    }


@pytest.mark.parametrize(
    ("mirror", "snapshot", "expected"),
    [
        (None, None, ("", "")),
        (None, "T", ("", "T")),
        ("http://m/debian", "T", ("http://m/debian", "")),
        ("http://m/debian/{snapshot}", "T", ("http://m/debian/T", "T")),
        ("http://m/debian/{snapshot}", None, ("", "")),
    ],
)
def test_a_mirror_has_packages_of_the_locked_day_or_of_today(
    mirror: str | None, snapshot: str | None, expected: tuple[str, str]
) -> None:
    arguments = apt_arguments(mirror, snapshot)
    assert (arguments["APT_MIRROR"], arguments["APT_SNAPSHOT"]) == expected


def test_references_hold_twelve_digits_of_the_revision() -> None:
    inputs = shipped("image.repository=host/a")
    short = f"{inputs.revision[:12]}{'-dirty' if inputs.revision.endswith('-dirty') else ''}"
    assert inputs.tags == (f"host/a:v1.9.3-cuda128-{short}",)
    assert inputs.references == (*inputs.tags, "host/a:v1.9.3-cuda128")


def test_a_folder_without_git_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_revision(tmp_path) == ("unknown", 0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert read_revision(tmp_path) == ("unknown", 7)


def test_no_secret_is_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    command = build_command(shipped(), BuildOptions(), {}, ["--tag=r:t"])
    assert "--secret=id=hf_token,env=HF_TOKEN" in command
    assert "hf_verysecret" not in " ".join(command)
    assert command[-1] == str(ROOT)


def test_prebuild_differs_in_models_and_leaves_only_the_cache(tmp_path: Path) -> None:
    inputs, options = shipped('build.cache.from=["x"]'), BuildOptions(tags=("one:two",))
    contexts = {"certificates": tmp_path}
    prebuild = prebuild_command(inputs, options, contexts, tmp_path)
    build = build_command(inputs, options, contexts, ["--load", "--tag=one:two"])
    assert set(prebuild) - set(build) == {
        f"--build-context=download={tmp_path}/download",
        "--output=type=cacheonly",
    }
    assert set(build) - set(prebuild) == {"--load", "--tag=one:two"}
    assert (tmp_path / "download/model.safetensors").read_bytes() == b""


def test_an_unknown_progress_mode_is_refused() -> None:
    with pytest.raises(UserError, match=r"no progress mode fancy .*auto, plain, quiet"):
        BuildOptions(progress="fancy")


def vertex(digest: str, name: str, **more: object) -> str:
    return json.dumps({"vertexes": [{"digest": digest, "name": name, **more}]})


def recorded() -> BuildProgress:
    progress = BuildProgress()
    start = "2026-11-23T10:00:00.123456789Z"
    progress.feed(vertex("a", "[packages 1/2] RUN one", started=start))
    progress.feed(
        vertex("a", "[packages 1/2] RUN one", started=start, completed="2026-11-23T10:00:02.5Z")
    )
    progress.feed(vertex("b", "[final 2/2] COPY x", started=start, completed=start, cached=True))
    return progress


def test_steps_have_stage_instruction_seconds_and_cache_state() -> None:
    steps = step_records(recorded(), BuildProgress())
    assert [(s.stage, s.instruction, s.cached) for s in steps] == [
        ("final", "COPY x", True),
        ("packages", "RUN one", False),
    ]
    assert steps[1].seconds == pytest.approx(2.377, abs=0.001)
    assert hit_ratio(steps) == 0.5


def test_prebuilt_steps_count_as_run() -> None:
    start, end = "2026-11-23T10:00:00Z", "2026-11-23T10:00:05Z"
    progress = BuildProgress()
    for digest, name in (("a", "[packages 1/2] RUN one"), ("b", "[packages 2/2] RUN two")):
        progress.feed(vertex(digest, name, started=start, completed=start, cached=True))
    later = "2026-11-23T10:00:00.0004Z"  # BuildKit reports one run to two builds at two times
    progress.feed(vertex("w", "[worker 1/1] RUN waited", started=later, completed=end))
    prebuilt = BuildProgress()
    prebuilt.feed(vertex("c", "[packages 1/2] RUN one", started=start, completed=end))
    prebuilt.feed(vertex("d", "[packages 2/2] RUN two", started=start, completed=end, cached=True))
    prebuilt.feed(vertex("w", "[worker 1/1] RUN waited", started=start, completed=end))

    steps = step_records(progress, prebuilt)

    assert [(s.instruction, s.seconds, s.cached, s.ahead) for s in steps] == [
        ("RUN one", 5.0, False, True),
        ("RUN two", 0.0, True, False),
        ("RUN waited", 5.0, False, True),
    ]
    assert hit_ratio(steps) == 0.333


def test_a_step_that_another_build_ran_is_reported_once_as_run() -> None:
    name, start = "[packages 1/2] RUN one", "2026-11-23T10:00:00Z"
    ran = vertex("a", name, started=start, completed="2026-11-23T10:00:05Z")
    again = "2026-11-23T10:00:06Z"
    progress = BuildProgress()
    finished = progress.feed(ran)
    finished += progress.feed(vertex("b", name, started=again, completed=again, cached=True))

    assert [str(step) for step in finished] == ["    5.0s  packages           RUN one"]
    [step] = step_records(progress, BuildProgress())
    assert (step.seconds, step.cached) == (5.0, False)


def test_a_failed_build_names_stage_instruction_and_last_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = BuildProgress()
    name = "[packages 3/4] RUN install"
    progress.feed(vertex("x", name, started="2026-11-23T10:00:00Z"))
    data = base64.b64encode(b"resolving\nNo space left on device\n").decode()
    progress.feed(json.dumps({"logs": [{"vertex": "x", "data": data}]}))
    error = 'process "/bin/sh" did not complete successfully: exit code: 1'
    progress.feed(vertex("x", name, completed="2026-11-23T10:00:09Z", error=error))

    failure = build_error(progress, "cpu")

    assert (failure.location, failure.code) == ("packages", "disk-full")
    assert "RUN install" in str(failure)
    assert "No space left on device" in capfd.readouterr().err


def test_a_disk_that_is_full_for_the_engine_itself_is_named() -> None:
    progress = BuildProgress()
    name = "[stage 2/4] COPY /opt/runpod /opt/runpod"
    progress.feed(vertex("x", name, started="2026-11-23T10:00:00Z"))
    # Seen of BuildKit in Docker 26.1.5.
    error = "failed to copy files: copy file range failed: no space left on device"
    progress.feed(vertex("x", name, completed="2026-11-23T10:00:09Z", error=error))
    assert build_error(progress, "cpu").code == "disk-full"


def test_an_unknown_failure_hints_at_building_its_stage() -> None:
    progress = BuildProgress()
    name = "[packages 3/4] RUN install"
    progress.feed(vertex("x", name, started="2026-11-23T10:00:00Z"))
    progress.feed(vertex("x", name, completed="2026-11-23T10:00:09Z", error="never seen before"))
    hint = build_error(progress, "cpu").hint
    assert hint == "look closer with: invoke build --variant cpu --target packages"


def test_a_build_that_does_not_start_shows_buildx_message() -> None:
    progress = BuildProgress()
    progress.feed('ERROR: no builder "nope" found\n')
    with pytest.raises(UserError, match='no builder "nope" found'):
        raise build_error(progress, "cpu")


def test_a_finished_step_is_one_line() -> None:
    assert str(recorded().steps["b"]) == "  cached  final              COPY x"


def test_layers_are_those_with_bytes_base_first() -> None:
    history = [
        {"Size": 0, "CreatedBy": "ENV a=b"},
        {"Size": 5, "CreatedBy": "COPY  b"},
        {"Size": 9, "CreatedBy": "base"},
    ]
    assert [layer.instruction for layer in layer_records(history)] == ["base", "COPY b"]


def test_context_bytes_count_each_transfer_once() -> None:
    progress = BuildProgress()
    for current in (10, 500):
        status = {"id": "transferring context:", "vertex": "v", "current": current}
        progress.feed(json.dumps({"statuses": [status]}))
    assert progress.context_bytes == 500


def test_progress_parses_objects_over_many_lines() -> None:
    progress = BuildProgress()
    event = {
        "vertexes": [{"digest": "d", "name": "[a 1/1] RUN x", "completed": "2026-01-01T00:00:00Z"}]
    }
    finished = [
        step
        for text in json.dumps(event, indent=2).splitlines(keepends=True)
        for step in progress.feed(text)
    ]
    assert [step.name for step in finished] == ["[a 1/1] RUN x"]

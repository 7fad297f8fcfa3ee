"""The build: arguments equal the Dockerfile's, the command line, progress and report."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.arguments import (
    BASE_DIGEST,
    BASE_NAME,
    base_labels,
    base_reference,
    build_arguments,
    unpinned,
)
from scripts.host.build.buildx import Plan, command, explain
from scripts.host.build.prebuild import empty_models, without_models
from scripts.host.build.progress import Progress
from scripts.host.build.progress_view import line
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.config.lock import Lock
from scripts.host.reports.build_report import hit_ratio, layer_records, step_records


@pytest.fixture(autouse=True)
def _only_the_shipped_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)


def shipped(variant: str = "cuda128", define: tuple[str, ...] = (), **lock: object) -> LoadedConfig:
    loaded = load(variant, define)
    return LoadedConfig(
        loaded.config, variant, loaded.origins, Lock.model_validate(lock), loaded.root
    )


def test_the_dockerfiles_defaults_are_those_of_config_yaml() -> None:
    text = (ROOT / "Dockerfile").read_text()
    defaults = dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.MULTILINE))
    said_elsewhere = {"VERSION", "REVISION", "CREATED"}  # they describe the checkout
    assert {k: v for k, v in defaults.items() if k not in said_elsewhere} == build_arguments(
        shipped()
    )


@pytest.mark.parametrize(
    ("reference", "mirror", "expected"),
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
def test_a_registry_mirror_serves_docker_hubs_names(
    reference: str, mirror: str | None, expected: str
) -> None:
    define = (f"mirrors.registry={mirror}",) if mirror else ()
    assert base_reference(shipped(define=define), reference) == expected


def test_a_locked_digest_pins_the_base_image() -> None:
    digest = "sha256:" + "a" * 64
    loaded = shipped(images={"alpine/git:2.43.0": digest})
    assert base_reference(loaded, "alpine/git:2.43.0") == f"alpine/git:2.43.0@{digest}"
    assert not any("alpine" in phrase for phrase in unpinned(loaded))


def test_the_image_says_which_base_it_stands_on() -> None:
    name, digest = "pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime", "sha256:" + "a" * 64
    assert base_labels(shipped()) == {BASE_NAME: name}
    assert base_labels(shipped(images={name: digest})) == {BASE_NAME: name, BASE_DIGEST: digest}
    written = shipped(define=(f"base.runtime={name}@{digest}",))
    assert base_labels(written) == {BASE_NAME: name, BASE_DIGEST: digest}


def test_what_nothing_pins_is_named() -> None:
    loaded = shipped(define=("a1111.sources.blip.commit=null",))
    assert set(unpinned(loaded)) == {
        "base image alpine/git:2.43.0",
        "base image pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime",
        "source blip (salesforce/BLIP)",
        "model clip-tokenizer",
    }


def test_no_secret_reaches_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    plan = Plan(
        root=ROOT, arguments={"A": "1"}, secrets={"hf_token": "env=HF_TOKEN"}, tags=("r:t",)
    )
    words = command(plan, Path("iid"))
    assert "--secret=id=hf_token,env=HF_TOKEN" in words
    assert "hf_verysecret" not in " ".join(words)
    assert words[-1] == str(ROOT)


def vertex(digest: str, name: str, **more: object) -> str:
    return json.dumps({"vertexes": [{"digest": digest, "name": name, **more}]})


def recorded() -> Progress:
    progress = Progress()
    start = "2026-11-23T10:00:00.123456789Z"
    progress.feed(vertex("a", "[packages 1/2] RUN one", started=start))
    progress.feed(
        vertex("a", "[packages 1/2] RUN one", started=start, completed="2026-11-23T10:00:02.5Z")
    )
    progress.feed(vertex("b", "[final 2/2] COPY x", started=start, completed=start, cached=True))
    return progress


def test_steps_keep_stage_instruction_seconds_and_cache_state() -> None:
    steps = step_records(recorded(), Progress())
    assert [(s.stage, s.instruction, s.cached) for s in steps] == [
        ("final", "COPY x", True),
        ("packages", "RUN one", False),
    ]
    assert steps[1].seconds == pytest.approx(2.377, abs=0.001)
    assert hit_ratio(steps) == 0.5


def test_what_ran_beside_the_download_counts_as_run_though_the_build_found_it_cached() -> None:
    start, end = "2026-11-23T10:00:00Z", "2026-11-23T10:00:05Z"
    progress = Progress()
    for digest, name in (("a", "[packages 1/2] RUN one"), ("b", "[packages 2/2] RUN two")):
        progress.feed(vertex(digest, name, started=start, completed=start, cached=True))
    later = "2026-11-23T10:00:00.0004Z"  # BuildKit tells one run to two builds at two times
    progress.feed(vertex("w", "[worker 1/1] RUN waited", started=later, completed=end))
    earlier = Progress()
    earlier.feed(vertex("c", "[packages 1/2] RUN one", started=start, completed=end))
    earlier.feed(vertex("d", "[packages 2/2] RUN two", started=start, completed=end, cached=True))
    earlier.feed(vertex("w", "[worker 1/1] RUN waited", started=start, completed=end))

    steps = step_records(progress, earlier)

    assert [(s.instruction, s.seconds, s.cached, s.ahead) for s in steps] == [
        ("RUN one", 5.0, False, True),
        ("RUN two", 0.0, True, False),
        ("RUN waited", 5.0, False, True),
    ]
    assert hit_ratio(steps) == 0.333


def test_a_step_that_another_build_ran_meanwhile_is_told_once_and_counts_as_run() -> None:
    name, start = "[packages 1/2] RUN one", "2026-11-23T10:00:00Z"
    ran = vertex("a", name, started=start, completed="2026-11-23T10:00:05Z")
    again = "2026-11-23T10:00:06Z"
    progress = Progress()
    told = progress.feed(ran)
    told += progress.feed(vertex("b", name, started=again, completed=again, cached=True))

    assert [line(step) for step in told] == ["    5.0s  packages           RUN one"]
    [step] = step_records(progress, Progress())
    assert (step.seconds, step.cached) == (5.0, False)


def test_what_is_built_ahead_differs_in_models_and_leaves_only_the_cache(tmp_path: Path) -> None:
    plan = Plan(
        root=ROOT,
        arguments={"A": "b"},
        contexts={"certificates": tmp_path},
        tags=("one:two",),
        options=("--load", "--network=host", "--cache-to=type=inline", "--cache-from=x"),
    )
    ahead = without_models(plan, empty_models(tmp_path))
    assert (ahead.arguments, ahead.target, ahead.tags) == (plan.arguments, plan.target, ())
    assert ahead.options == ("--network=host", "--cache-from=x", "--output=type=cacheonly")
    assert ahead.contexts == {"certificates": tmp_path, "download": tmp_path / "download"}
    assert (tmp_path / "download/model.safetensors").read_bytes() == b""


def test_a_failing_build_names_stage_instruction_and_last_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    progress = Progress()
    name = "[packages 3/4] RUN install"
    progress.feed(vertex("x", name, started="2026-11-23T10:00:00Z"))
    data = base64.b64encode(b"resolving\nNo space left on device\n").decode()
    progress.feed(json.dumps({"logs": [{"vertex": "x", "data": data}]}))
    error = 'process "/bin/sh" did not complete successfully: exit code: 1'
    progress.feed(vertex("x", name, completed="2026-11-23T10:00:09Z", error=error))

    failure = explain(progress, "cpu")

    assert (failure.location, failure.code) == ("packages", "disk-full")
    assert "RUN install" in str(failure)
    assert "No space left on device" in capfd.readouterr().err


def test_an_unknown_failure_says_how_to_build_that_stage_of_that_variant() -> None:
    progress = Progress()
    name = "[packages 3/4] RUN install"
    progress.feed(vertex("x", name, started="2026-11-23T10:00:00Z"))
    progress.feed(vertex("x", name, completed="2026-11-23T10:00:09Z", error="never seen before"))
    hint = explain(progress, "cpu").hint
    assert hint == "look closer with: invoke build --variant cpu --target packages"


def test_a_build_that_never_starts_repeats_the_engines_words() -> None:
    progress = Progress()
    progress.feed('ERROR: no builder "nope" found\n')
    with pytest.raises(UserError, match='no builder "nope" found'):
        raise explain(progress, "cpu")


def test_a_finished_step_is_one_line() -> None:
    cached = recorded().steps["b"]
    assert line(cached) == "  cached  final              COPY x"


def test_layers_are_those_with_bytes_base_first() -> None:
    history = [
        {"Size": 0, "CreatedBy": "ENV a=b"},
        {"Size": 5, "CreatedBy": "COPY  b"},
        {"Size": 9, "CreatedBy": "base"},
    ]
    assert [layer.instruction for layer in layer_records(history)] == ["base", "COPY b"]


def test_context_bytes_count_each_transfer_once() -> None:
    progress = Progress()
    for current in (10, 500):
        status = {"id": "transferring context:", "vertex": "v", "current": current}
        progress.feed(json.dumps({"statuses": [status]}))
    assert progress.context_bytes == 500


def test_progress_reads_objects_indented_over_many_lines_as_well() -> None:
    progress = Progress()
    event = {
        "vertexes": [{"digest": "d", "name": "[a 1/1] RUN x", "completed": "2026-01-01T00:00:00Z"}]
    }
    finished = [
        step
        for text in json.dumps(event, indent=2).splitlines(keepends=True)
        for step in progress.feed(text)
    ]
    assert [step.name for step in finished] == ["[a 1/1] RUN x"]

"""A push's pure core: which names in which order, what an error means, what counts as tested."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.config.load import LoadedConfig, load
from scripts.host.registry.client import Lost, trouble
from scripts.host.registry.push import doubt_about, names_of
from scripts.host.registry.upload_progress import Uploads
from tests.support.smoke_reports import write_report

IMAGE = "sha256:" + "1" * 64


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedConfig:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    define = (
        "image.repository=host:5000/me/worker",
        'image.tags=["{release}-{revision}", "{variant}-{revision}"]',
        'image.moving_tags=["{variant}"]',
    )
    return replace(load("cpu", define), root=tmp_path)


def test_names_that_never_move_come_apart_from_those_that_do(loaded: LoadedConfig) -> None:
    names = names_of(loaded, ["other:1"])
    assert names.immutable == (
        "host:5000/me/worker:v1.9.3-unknown",
        "host:5000/me/worker:cpu-unknown",
    )
    assert names.moving == ("host:5000/me/worker:cpu", "other:1")


def test_an_image_counts_as_tested_by_its_own_passing_report_only(loaded: LoadedConfig) -> None:
    write_report(loaded.root / "reports", IMAGE)
    assert doubt_about(loaded, IMAGE) is None
    assert "another image" in str(doubt_about(loaded, "sha256:" + "2" * 64))


def test_a_failed_or_partial_run_is_a_doubt(loaded: LoadedConfig) -> None:
    write_report(loaded.root / "reports", IMAGE, outcome="failed")
    assert "failed" in str(doubt_about(loaded, IMAGE))
    write_report(loaded.root / "reports", IMAGE, whole=False)
    assert "only a part" in str(doubt_about(loaded, IMAGE))


def test_an_image_for_gpus_counts_only_once_it_drew_on_one(loaded: LoadedConfig) -> None:
    cuda = replace(load("cuda128"), root=loaded.root)
    write_report(loaded.root / "reports", IMAGE, variant="cuda128", drew=False)
    doubt = doubt_about(cuda, IMAGE)
    assert doubt
    assert "drew no picture" in doubt.message
    assert "nox -s gpu_smoke -- --variant cuda128" in doubt.hint
    write_report(loaded.root / "reports", IMAGE, variant="cuda128")
    assert doubt_about(cuda, IMAGE) is None


@pytest.mark.parametrize(
    "text", ["[]", '{"image_id": ', json.dumps({"image_id": IMAGE, "passed": True})]
)
def test_what_is_no_whole_report_is_a_doubt(loaded: LoadedConfig, text: str) -> None:
    path = loaded.root / "reports" / "smoke-cpu.json"
    path.parent.mkdir()
    path.write_text(text)
    doubt = doubt_about(loaded, IMAGE)
    assert "cannot be read" in str(doubt)
    assert "reports/smoke-cpu.json" in str(doubt)


def test_no_report_at_all_is_a_doubt(loaded: LoadedConfig) -> None:
    assert "no smoke report" in str(doubt_about(loaded, IMAGE))


@pytest.mark.parametrize(
    "message",
    [
        "no basic auth credentials",
        "unauthorized: authentication required",
        "denied: requested access to the resource is denied",
        "denied: permission_denied: write_package",
        "error parsing HTTP 403 response body: invalid character '<'",
        "unexpected status from POST request to https://host/v2/a/blobs/uploads/: 403 Forbidden",
    ],
)
def test_a_refusal_is_final_and_says_how_to_log_in(message: str) -> None:
    meaning = trouble(message, "host:5000/me/worker:1")
    assert isinstance(meaning, UserError)
    assert meaning.code == "registry-refused"
    assert "docker login host:5000" in meaning.hint


@pytest.mark.parametrize(
    "message",
    [
        'Put "https://host/v2/a/manifests/1": EOF',
        "dial tcp 127.0.0.1:5000: connect: connection refused",
        "read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer",
        "net/http: TLS handshake timeout",
        "received unexpected HTTP status: 503 Service Unavailable",
        "unexpected status from PUT request to https://host/v2/a: 502 Bad Gateway",
        "toomanyrequests: slow down",
        "context deadline exceeded",
    ],
)
def test_what_another_try_may_cure_is_no_failure_yet(message: str) -> None:
    assert isinstance(trouble(message, "host:5000/me/worker:1"), Lost)


@pytest.mark.parametrize(
    "message",
    [
        "dial tcp: lookup host on 127.0.0.1:53: no such host",
        "name unknown: The repository does not exist in the registry",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "open /var/lib/docker/tmp/layer: permission denied: no way",
    ],
)
def test_anything_else_is_final_in_the_engines_words(message: str) -> None:
    meaning = trouble(message, "host:5000/me/worker:1")
    assert isinstance(meaning, UserError)
    assert meaning.code == ""
    assert message in str(meaning)


def test_a_push_adds_up_its_layers() -> None:
    uploads = Uploads()
    for event in (
        {"status": "The push refers to repository [host/me]"},
        {"status": "Preparing", "id": "a", "progressDetail": {}},
        {"status": "Layer already exists", "id": "b", "progressDetail": {}},
        {"status": "Pushing", "id": "c", "progressDetail": {"current": 500, "total": 1000}},
        {"status": "Pushing", "id": "d", "progressDetail": {"current": 1536, "total": 1500}},
        {"status": "Pushed", "id": "d", "progressDetail": {}},
        {"status": "Retrying in 5 seconds", "id": "e", "progressDetail": {}},
    ):
        uploads.feed(event)
    assert uploads.digest == ""
    assert uploads.line == (
        "2 of 5 layers up, 1 already there, 2.04 kB of 2.54 kB sent, 1 being tried again"
    )
    uploads.feed({"status": f"1: digest: {IMAGE} size: 401"})
    assert uploads.digest == IMAGE

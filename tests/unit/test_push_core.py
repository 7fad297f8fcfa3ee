"""A push without an engine: references, classified errors, tested images, progress."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from scripts.host.registry.refusals import LOST
from scripts.host.registry.registry_api import classify
from scripts.host.registry.tested_image import check_tested
from scripts.host.registry.upload_progress import UploadProgress
from tests.support.smoke_reports import write_report

IMAGE = "sha256:" + "1" * 64


@pytest.fixture
def inputs(tmp_path: Path) -> BuildInputs:
    define = (
        "image.repository=host:5000/me/worker",
        'image.tags=["{release}-{revision}", "{variant}-{revision}"]',
        'image.moving_tags=["{variant}"]',
    )
    return resolve(replace(load("cpu", define), root=tmp_path))


def test_moving_tags_come_after_immutable_ones(inputs: BuildInputs) -> None:
    assert inputs.tags == ("host:5000/me/worker:v1.9.3-unknown", "host:5000/me/worker:cpu-unknown")
    assert inputs.references == (*inputs.tags, "host:5000/me/worker:cpu")


def test_image_counts_as_tested_by_its_own_passing_report_only(inputs: BuildInputs) -> None:
    write_report(inputs.root / "reports", IMAGE)
    assert check_tested(inputs, IMAGE) is None
    assert "another image" in str(check_tested(inputs, "sha256:" + "2" * 64))


def test_failed_or_partial_run_does_not_count_as_tested(inputs: BuildInputs) -> None:
    write_report(inputs.root / "reports", IMAGE, outcome="failed")
    assert "failed" in str(check_tested(inputs, IMAGE))
    write_report(inputs.root / "reports", IMAGE, whole=False)
    assert "only a part" in str(check_tested(inputs, IMAGE))


def test_gpu_image_counts_as_tested_once_it_drew_on_a_gpu(inputs: BuildInputs) -> None:
    cuda = resolve(replace(load("cuda128"), root=inputs.root))
    write_report(inputs.root / "reports", IMAGE, variant="cuda128", drew=False)
    error = check_tested(cuda, IMAGE)
    assert error
    assert "drew no picture" in error.message
    assert "nox -s gpu_smoke -- --variant cuda128" in error.hint
    write_report(inputs.root / "reports", IMAGE, variant="cuda128")
    assert check_tested(cuda, IMAGE) is None


def test_report_of_a_variant_with_dots_in_its_name_counts(inputs: BuildInputs) -> None:
    variant = "cpu-a1111-v1.10.1"
    write_report(inputs.root / "reports", IMAGE, variant=variant)
    assert check_tested(resolve(replace(load(variant), root=inputs.root)), IMAGE) is None


@pytest.mark.parametrize(
    "text", ["[]", '{"image_id": ', json.dumps({"image_id": IMAGE, "passed": True})]
)
def test_invalid_report_does_not_count_as_tested(inputs: BuildInputs, text: str) -> None:
    path = inputs.root / "reports" / "smoke-cpu.json"
    path.parent.mkdir()
    path.write_text(text)
    error = check_tested(inputs, IMAGE)
    assert "cannot be read" in str(error)
    assert "reports/smoke-cpu.json" in str(error)


def test_missing_report_does_not_count_as_tested(inputs: BuildInputs) -> None:
    assert "no smoke report" in str(check_tested(inputs, IMAGE))


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
def test_refused_credentials_are_final(message: str) -> None:
    error = classify(message, "host:5000/me/worker:1")
    assert error.code == "registry-refused"
    assert "docker login host:5000" in error.hint or "write:packages" in error.hint


REFUSALS = yaml.safe_load((ROOT / "tests/support/registry_refusals.yaml").read_text())


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row["text"][:40])
def test_what_registries_say_has_its_code_and_hint(row: dict[str, str]) -> None:
    error = classify(row["text"], "registry.example/me/app:one")
    assert error.code == (row["code"] or "")
    assert row["hint"] in error.hint
    assert error.hint
    assert row["text"] in error.message


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
        "error parsing HTTP 429 response body: invalid character 'T'",
        "context deadline exceeded",
        # Seen of the engine on a busy machine.
        'Head "http://127.0.0.1:5000/v2/a/manifests/two": http: server closed idle connection',
        'Patch "https://host/v2/a/blobs/uploads/1": unexpected EOF',
        "write tcp 127.0.0.1:1->127.0.0.1:2: write: broken pipe",
        "write tcp 127.0.0.1:1->127.0.0.1:2: use of closed network connection",
        "read tcp 127.0.0.1:1->127.0.0.1:2: i/o timeout",
        "dial tcp 127.0.0.1:5000: connect: connection timed out",
        "dial tcp 10.0.0.1:443: connect: no route to host",
        "dial tcp 10.0.0.1:443: connect: network is unreachable",
        "dial tcp: lookup host on 127.0.0.53:53: server misbehaving",
        "dial tcp: lookup host: Temporary failure in name resolution",
        "net/http: timeout awaiting response headers",
        "net/http: HTTP/1.x transport connection broken: malformed HTTP response",
        "http: transport closed before response was received",
        "http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR",
        "http2: client connection lost",
        "stream error: stream ID 3; INTERNAL_ERROR; received from peer",
        "Client.Timeout exceeded while awaiting headers",
    ],
)
def test_lost_connections_and_overload_are_retried(message: str) -> None:
    assert classify(message, "host:5000/me/worker:1").code == LOST


@pytest.mark.parametrize(
    "message",
    [
        "dial tcp: lookup host on 127.0.0.1:53: no such host",
        "open /var/lib/docker/tmp/layer: permission denied: no way",
    ],
)
def test_other_errors_are_final_and_quote_the_engine(message: str) -> None:
    error = classify(message, "host:5000/me/worker:1")
    assert error.code == ""
    assert message in str(error)


def test_progress_adds_up_layers() -> None:
    uploads = UploadProgress()
    for event in (
        {"status": "The push refers to repository [host/me]"},
        {"status": "Preparing", "id": "a", "progressDetail": {}},
        {"status": "Layer already exists", "id": "b", "progressDetail": {}},
        {"status": "Pushing", "id": "c", "progressDetail": {"current": 500, "total": 1000}},
        {"status": "Pushing", "id": "d", "progressDetail": {"current": 1536, "total": 1500}},
        {"status": "Pushed", "id": "d", "progressDetail": {}},
        {"status": "Retrying in 5 seconds", "id": "e", "progressDetail": {}},
    ):
        uploads.add(event)
    assert uploads.digest == ""
    assert uploads.line == (
        "2 of 5 layers pushed, 1 already there, 2.04 kB of 2.54 kB sent, 1 retried"
    )
    uploads.add({"status": f"1: digest: {IMAGE} size: 401"})
    assert uploads.digest == IMAGE


def test_small_layer_whose_bytes_are_not_reported_counts_as_sent() -> None:
    uploads = UploadProgress()
    uploads.add({"status": "Layer already exists", "id": "a"})
    assert not uploads.has_sent
    uploads.add({"status": "Pushed", "id": "b", "progressDetail": {}})
    assert uploads.has_sent

"""`invoke push` against a real registry: its promises, also when the registry fails."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import BuildInputs, resolve
from scripts.host.config.load import ROOT, load
from scripts.host.engine.client import client, probe
from scripts.host.registry.push import push, require_image
from tests.support.registry import MANIFESTS, PASSWORD, USER, Registry, layers_of, registry
from tests.support.registry_front import Refusal, refusing
from tests.support.running import build_image, error_line, invoke
from tests.support.smoke_reports import write_report
from tests.support.wire import wire

pytestmark = pytest.mark.engine

AT_ONCE = (0.0, 0.0)


@pytest.fixture(autouse=True)
def _no_config_or_credentials_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("IMAGE_CONFIG", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("guarded"), locked=True) as running:
        yield running


def held(registry: Registry, repository: str, password: str = "") -> dict[str, str]:
    """Digests of a repository's tags in a registry."""

    def ask(path: str) -> Any:
        asked = urllib.request.Request(f"{registry.url}/v2/{repository}/{path}")
        asked.add_header("Accept", MANIFESTS)
        if password:
            asked.add_header("Authorization", f"Basic {basic(password)}")
        return urllib.request.urlopen(asked, timeout=10)

    try:
        with ask("tags/list") as answer:
            tags = json.load(answer)["tags"] or []
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return {}
    digests = {}
    for tag in tags:
        with ask(f"manifests/{tag}") as answer:
            digests[tag] = str(answer.headers["Docker-Content-Digest"])
    return digests


def basic(password: str) -> str:
    """User and password encoded for HTTP and Docker's config."""
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


@pytest.fixture
def engine() -> Iterator[Any]:
    connected = client()
    yield connected
    connected.close()


@dataclass(frozen=True)
class Work:
    """A folder for reports, and small images made for its pushes."""

    root: Path
    engine: Any
    repository: str

    def inputs(self, address: str, variant: str = "cpu", tags: str = "one, two") -> BuildInputs:
        """Inputs of a build for a registry: two immutable tags, one that moves."""
        define = (
            f"image.repository={address}/{self.repository}",
            f"image.tags=[{tags}]",
            "image.moving_tags=[latest]",
        )
        return resolve(replace(load(variant, define), root=self.root))

    def build(self, inputs: BuildInputs, *, size: int = 1000, tested: bool = True) -> str:
        """Make an image of random bytes, tag it as `invoke build` would, and return its ID.

        Where it is tested, it gets a passing report.
        """
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            entry = tarfile.TarInfo("file")
            entry.size = size
            archive.addfile(entry, io.BytesIO(secrets.token_bytes(size)))
        first = inputs.tags[0]
        for name in inputs.references:
            repository, tag = name.rsplit(":", 1)
            if name == first:
                self.engine.api.import_image_from_data(data.getvalue(), repository, tag)
            else:
                self.engine.images.get(first).tag(repository, tag)
        image_id = str(self.engine.images.get(first).id)
        if tested:
            write_report(self.root / "reports", image_id, variant=inputs.variant)
        return image_id

    @property
    def record(self) -> Path:
        """The record of a complete push."""
        return self.root / "reports" / "push-cpu.json"


@pytest.fixture
def work(tmp_path: Path, engine: Any) -> Iterator[Work]:
    root = tmp_path / "checkout"
    root.mkdir()
    work = Work(root, engine, f"tests/{secrets.token_hex(6)}")
    yield work
    for image in engine.images.list():
        names = [*image.tags, *(image.attrs.get("RepoDigests") or [])]
        if any(work.repository in name for name in names):
            engine.images.remove(image.id, force=True)


def test_push_sends_every_tag_and_records_the_digest(
    work: Work, open_registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = work.inputs(open_registry.address)
    image_id = work.build(inputs)
    further = f"{open_registry.address}/{work.repository}:further"
    push(inputs, [further])
    compresses_anew = "compresses each layer with gzip while it is pushed"
    assert (compresses_anew in capsys.readouterr().err) is not probe().containerd_store
    there = held(open_registry, work.repository)
    assert set(there) == {"one", "two", "latest", "further"}
    [digest] = set(there.values())
    record = json.loads(work.record.read_text())
    assert record["image_id"] == image_id
    assert record["untested"] is False
    assert {each["digest"] for each in record["references"]} == {digest}


def test_push_after_a_change_sends_one_layer(work: Work, open_registry: Registry) -> None:
    before, after = (work.inputs(open_registry.address, tags=tag) for tag in ("before", "after"))
    work.build(before)
    push(before)
    build_image(after.tags[0], f"FROM {before.tags[0]}\nCOPY <<EOF /changed\nby a change\nEOF\n")
    write_report(work.root / "reports", work.engine.images.get(after.tags[0]).id)
    push(after)
    sent = [
        set(layers_of(open_registry.address, work.repository, tag)) for tag in ("before", "after")
    ]
    assert sent[0] < sent[1]
    assert len(sent[1] - sent[0]) == 1


def test_image_without_a_passing_smoke_report_is_not_pushed(
    work: Work, open_registry: Registry
) -> None:
    inputs = work.inputs(open_registry.address)
    image_id = work.build(inputs, tested=False)
    with pytest.raises(UserError, match="no smoke report"):
        push(inputs)
    write_report(work.root / "reports", image_id, outcome="failed")
    with pytest.raises(UserError, match="smoke test of this image failed"):
        push(inputs)
    assert held(open_registry, work.repository) == {}
    assert not work.record.exists()


def test_gpu_image_is_pushed_once_it_drew_on_a_gpu(work: Work, open_registry: Registry) -> None:
    inputs = work.inputs(open_registry.address, "cuda128")
    image_id = work.build(inputs, tested=False)
    write_report(work.root / "reports", image_id, variant="cuda128", drew=False)
    with pytest.raises(UserError, match=r"drew no picture.*nox -s gpu_smoke"):
        push(inputs)
    assert held(open_registry, work.repository) == {}
    write_report(work.root / "reports", image_id, variant="cuda128")
    assert not push(inputs).untested
    assert set(held(open_registry, work.repository)) == {"one", "two", "latest"}


def test_candidate_is_one_immutable_tag_without_a_report(
    work: Work, open_registry: Registry
) -> None:
    inputs = work.inputs(open_registry.address)
    image_id = work.build(inputs, tested=False)
    further = [f"{open_registry.address}/{work.repository}:latest"]
    with pytest.raises(UserError, match="one immutable tag"):
        push(inputs, further, candidate=True)
    push(inputs, candidate=True)
    there = held(open_registry, work.repository)
    assert set(there) == {"one"}
    record = json.loads((work.root / "reports" / "candidate-cpu.json").read_text())
    assert record["untested"] is True
    assert record["image_id"] == image_id
    assert [each["digest"] for each in record["references"]] == [there["one"]]
    assert not work.record.exists()
    with pytest.raises(UserError, match="no smoke report"):
        push(inputs)
    assert set(held(open_registry, work.repository)) == {"one"}


def test_immutable_tag_of_another_image_stops_the_push(work: Work, open_registry: Registry) -> None:
    inputs = work.inputs(open_registry.address)
    work.build(inputs)
    push(inputs)
    before = held(open_registry, work.repository)
    work.build(inputs)
    with pytest.raises(UserError, match="taken by another image"):
        push(inputs)
    assert held(open_registry, work.repository) == before


def test_pushed_image_is_compared_with_the_tested_one(work: Work, open_registry: Registry) -> None:
    inputs = work.inputs(open_registry.address)
    image_id = work.build(inputs)
    [first, *_] = push(inputs, candidate=True).references
    require_image(image_id, first.reference, first.digest)
    another = work.build(inputs)
    with pytest.raises(UserError, match=f"not the tested {another}"):
        require_image(another, first.reference, first.digest)


def test_same_image_pushed_from_another_machine_is_not_sent_again(
    work: Work, open_registry: Registry
) -> None:
    inputs = work.inputs(open_registry.address)
    image_id = work.build(inputs)
    push(inputs)
    first = inputs.tags[0]
    saved = b"".join(work.engine.images.get(first).save(named=first))
    work.engine.images.remove(image_id, force=True)  # and with it what the engine knew of digests
    [image] = work.engine.images.load(saved)
    assert image.id == image_id
    # At most its own ID, which is a digest where containerd keeps images; no registry's answer.
    known = {digest.rpartition("@")[2] for digest in image.attrs["RepoDigests"]}
    assert known <= {image_id}
    pushed = push(inputs).references
    assert {each.reference: each.was_there for each in pushed} == {
        **dict.fromkeys(inputs.tags, True),
        **dict.fromkeys(inputs.moving_tags, False),
    }


def test_moving_tags_are_pushed_after_every_immutable_one(
    work: Work, open_registry: Registry
) -> None:
    with wire(open_registry.address, b"/manifests/two HTTP", forever=True) as way:
        inputs = work.inputs(way.address)
        work.build(inputs)
        with pytest.raises(UserError, match="registry-lost"):
            push(inputs, pauses=AT_ONCE)
    assert way.broken.is_set()
    assert "latest" not in held(open_registry, work.repository)


def test_broken_connection_is_retried(work: Work, open_registry: Registry) -> None:
    at = f"PUT /v2/{work.repository}/manifests/".encode()
    with wire(open_registry.address, at) as way:
        inputs = work.inputs(way.address)
        work.build(inputs)
        push(inputs, pauses=AT_ONCE)
    assert way.broken.is_set()
    assert set(held(open_registry, work.repository)) == {"one", "two", "latest"}


def test_push_after_a_registry_failure_completes(work: Work, open_registry: Registry) -> None:
    at = f"PUT /v2/{work.repository}/manifests/".encode()
    with wire(open_registry.address, at, forever=True) as way:
        inputs = work.inputs(way.address)
        work.build(inputs)
        with pytest.raises(UserError, match="registry-lost"):
            push(inputs, pauses=AT_ONCE)
        assert held(open_registry, work.repository) == {}
        assert not work.record.exists()
        way.repair()
        push(inputs, pauses=AT_ONCE)
    assert set(held(open_registry, work.repository)) == {"one", "two", "latest"}
    assert work.record.exists()


MANIFEST = r"PUT .*/manifests/"
UPLOAD = r"POST .*/blobs/uploads/"


@pytest.mark.parametrize(
    ("refusal", "code", "hint"),
    [
        (
            Refusal(MANIFEST, 400, "TAG_INVALID", "The image tag 'one' already exists in the 'a' "
            "repository and cannot be overwritten because the repository is immutable."),
            "registry-immutable",
            "new revision",
        ),
        (
            Refusal(UPLOAD, 404, "NAME_UNKNOWN", "The repository with name 'a' does not exist in "
            "the registry with id '1'"),
            "registry-missing",
            "create it",
        ),
        (
            Refusal(UPLOAD, 403, "DENIED", "permission_denied: write_package"),
            "registry-refused",
            "write:packages",
        ),
        (
            Refusal(MANIFEST, 403, "DENIED", "adding 1.2 GiB of storage resource, which when "
            "updated to current usage of 9.5 GiB will exceed the configured upper limit of 10 GiB"),
            "registry-full",
            "delete old images",
        ),
    ],
    ids=lambda value: value.code if isinstance(value, Refusal) else "",
)  # fmt: skip
def test_what_the_engine_reports_of_a_refusal_has_its_code_and_is_not_retried(
    work: Work, open_registry: Registry, refusal: Refusal, code: str, hint: str
) -> None:
    with refusing(open_registry.address, refusal) as front:
        inputs = work.inputs(front.address)
        work.build(inputs)
        with pytest.raises(UserError) as caught:
            push(inputs, pauses=(60.0,))  # another attempt would end the test
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert held(open_registry, work.repository) == {}


def test_a_token_that_expires_during_a_push_is_renewed(work: Work, open_registry: Registry) -> None:
    expired = Refusal(MANIFEST, 401, "UNAUTHORIZED", "authentication required", times=1)
    with refusing(open_registry.address, expired) as front:
        inputs = work.inputs(front.address)
        work.build(inputs)
        push(inputs, pauses=AT_ONCE)
    assert front.refused > 1
    assert set(held(open_registry, work.repository)) == {"one", "two", "latest"}


def test_credentials_of_docker_config_are_used(work: Work, guarded_registry: Registry) -> None:
    inputs = work.inputs(guarded_registry.address)
    work.build(inputs)
    log_in(guarded_registry.address, PASSWORD)
    push(inputs)
    assert len(held(guarded_registry, work.repository, PASSWORD)) == 3


@pytest.fixture
def checkout(work: Work) -> Path:
    """A copy of the files that `invoke push` needs, with reports of its own."""
    for name in ("scripts", "tasks.py", "config.yaml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, work.root / name)
    return work.root


def push_command(inputs: BuildInputs) -> tuple[str, ...]:
    """Arguments of `invoke` for a push with the config of a test."""
    repository = inputs.tags[0].rpartition(":")[0]
    define = (
        f"image.repository={repository}",
        "image.tags=[one, two]",
        "image.moving_tags=[latest]",
    )
    options = (word for value in define for word in ("-D", value))
    return ("push", "--variant", "cpu", *options)


@pytest.mark.parametrize("password", [None, "wrong"])
def test_refused_credentials_are_one_error_and_push_nothing(
    work: Work, checkout: Path, guarded_registry: Registry, password: str | None
) -> None:
    inputs = work.inputs(guarded_registry.address)
    work.build(inputs)
    if password:
        log_in(guarded_registry.address, password)
    line = error_line(invoke(*push_command(inputs), root=checkout))
    assert "[registry-refused]" in line
    assert f"docker login {guarded_registry.address}" in line
    assert "next try" not in line
    assert held(guarded_registry, work.repository, PASSWORD) == {}
    assert not work.record.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_registry_failing_within_a_layer_leaves_no_tag(work: Work, open_registry: Registry) -> None:
    # In the address of a layer's bytes, which Docker's own store sends by PATCH, containerd by PUT.
    at = b"?_state="
    with wire(open_registry.address, at, after=500_000, forever=True) as way:
        inputs = work.inputs(way.address)
        work.build(inputs, size=2_000_000)
        with pytest.raises(UserError, match="registry-lost"):  # the engine itself tries for 50 s
            push(inputs, pauses=AT_ONCE)
    assert way.broken.is_set()
    assert held(open_registry, work.repository) == {}
    assert not work.record.exists()


def log_in(address: str, password: str) -> None:
    """Store credentials as `docker login` does without a credential helper."""
    config = Path(os.environ["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"auths": {address: {"auth": basic(password)}}}))

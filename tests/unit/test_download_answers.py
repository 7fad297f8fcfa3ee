"""Test that pages and errors which a server sends in place of a file are named and quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.transfer import fetch_verified
from tests.support.downloading import CONTENT, QUICK, sha
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, misbehaving

PAGE = b"<!DOCTYPE html><html><head><title>Sign in\n &amp; go</title></head><body>x</body></html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "store" / "file"


@pytest.mark.parametrize(
    "name", ["m.safetensors", "m.pth", "m.vae.pt", "m.txt", "m.json", "m.yaml"]
)
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
def test_a_page_is_named_with_its_title_for_every_kind_of_file(
    dest: Path, name: str, pinned: bool
) -> None:
    with misbehaving(PAGE, Behaviour(headers=HTML)) as server:
        known = {"sha256": sha(CONTENT), "size": len(CONTENT)} if pinned else {}
        spec = ArtifactSpec(f"{server.url}/file", name, allow_pickle=True, **known)  # type: ignore[arg-type]  # as given
        error = user_error(fetch_verified, spec, dest, policy=QUICK)
        assert len(server.asked) == 1
    assert error.code == "not-a-model"
    assert error.message == "a web page (Sign in & go), not a model"
    assert list(dest.parent.iterdir()) == []


def test_a_page_without_content_type_is_named_before_its_size(dest: Path) -> None:
    with misbehaving(PAGE) as server:
        spec = ArtifactSpec(
            f"{server.url}/file", "m.pth", sha(CONTENT), len(CONTENT), allow_pickle=True
        )
        error = user_error(fetch_verified, spec, dest, policy=QUICK)
    assert error.code == "not-a-model"


def test_a_login_page_at_the_end_of_redirects_is_named(dest: Path) -> None:
    away = Behaviour(status=302, headers={"Location": "/login?reason=download-auth"})
    with misbehaving(PAGE, away, Behaviour(headers=HTML)) as server:
        spec = ArtifactSpec(f"{server.url}/api/download/models/1", "m.safetensors")
        assert "a web page (Sign in & go)" in str(
            user_error(fetch_verified, spec, dest, policy=QUICK)
        )


@pytest.mark.parametrize(
    "kind", [HTML, {"Content-Type": "text/plain"}, JSON, {"Content-Type": "binary/octet-stream"}]
)
def test_a_wrong_content_type_alone_is_no_reason(dest: Path, kind: dict[str, str]) -> None:
    with misbehaving(CONTENT, Behaviour(headers=kind)) as server:
        spec = ArtifactSpec(f"{server.url}/file", "m.dat", sha(CONTENT), len(CONTENT))
        assert fetch_verified(spec, dest, policy=QUICK).sha256 == sha(CONTENT)
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (
            401,
            b'{"error":"Access to model a/b is restricted. You must log in."}',
            "restricted. You",
        ),
        (401, b'{"error":"Unauthorized","message":"The creator requires you to log in"}', "log in"),
        (404, b'{"error": "Model not found"}', "404 Not Found: Model not found"),
        (403, b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "AccessDenied"),
        (403, PAGE, "403 Forbidden: Sign in & go"),
        (404, b'{"error": {"message": "nested"}}', ": nested"),
        (404, b"plain\x1b[31m\n text", ": plain [31m text"),
        (404, b"", "404 Not Found: http"),
        (404, b"{broken", "404 Not Found: http"),
    ],
)
def test_a_refusal_is_quoted_in_one_line(
    dest: Path, status: int, answer: bytes, expected: str
) -> None:
    with misbehaving(b"", Behaviour(status=status, content=answer)) as server:
        error = user_error(fetch_verified, ArtifactSpec(f"{server.url}/f", "f"), dest, policy=QUICK)
    assert expected in str(error)
    assert "\n" not in str(error)
    assert error.code == "download-refused"


def test_the_hubs_own_message_is_quoted_from_its_header(dest: Path) -> None:
    headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model a/b is restricted"}
    with misbehaving(b"", Behaviour(status=403, headers=headers)) as server:
        error = user_error(fetch_verified, ArtifactSpec(f"{server.url}/f", "f"), dest, policy=QUICK)
    assert "403 Forbidden: Access to model a/b is restricted" in error.message
    assert "accept the model's terms" in error.hint

"""Download one file over a real socket: a verified file, or one error."""

from __future__ import annotations

import email.utils
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.hashing import layer_time
from scripts.common.fetch.partial import partial_path
from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy
from scripts.common.fetch.transfer import fetch_verified
from tests.support.downloading import CONTENT, HALF, OTHER, QUICK, fetch, leftovers, sha, spec_of
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.tls import serve_tls


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "store" / "file"


def test_fetched_file_has_its_content_mode_and_layer_time(dest: Path) -> None:
    with misbehaving(CONTENT) as server:
        found = fetch(server, dest)
    assert dest.read_bytes() == CONTENT
    assert (found.state, found.sha256, found.received) == ("fetched", sha(CONTENT), len(CONTENT))
    assert stat.S_IMODE(dest.stat().st_mode) == 0o644
    assert dest.stat().st_mtime == layer_time(sha(CONTENT))
    assert leftovers(dest) == ["file.stamp"]


def test_second_fetch_sends_no_request(dest: Path) -> None:
    with misbehaving(CONTENT) as server:
        fetch(server, dest)
        assert fetch(server, dest).state == "cached"
        assert len(server.asked) == 1


@pytest.mark.parametrize("how", ["close", "reset", "stall", "crawl"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_broken_connection_is_resumed_where_it_broke(dest: Path, how: str, chunked: bool) -> None:
    broken = Behaviour(stop_at=HALF, how=how, chunked=chunked)  # type: ignore[arg-type]  # one of its literals
    with misbehaving(CONTENT, broken, Behaviour()) as server:
        found = fetch(server, dest)
        resumed = server.asked[1].headers
    assert dest.read_bytes() == CONTENT
    assert found.sha256 == sha(CONTENT)
    assert resumed["If-Range"] == '"one"'
    start = int(resumed["Range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start < len(CONTENT)  # a reset may lose bytes that were on their way
    if how in ("close", "stall"):
        assert start == HALF


def test_corrupted_bytes_are_discarded_with_one_line(dest: Path) -> None:
    with misbehaving(CONTENT, Behaviour(flip=True)) as server:
        error = user_error(fetch, server, dest)
    assert error.code == "wrong-bytes"
    assert "discarded" in str(error)
    assert "\n" not in str(error)
    assert list(dest.parent.iterdir()) == []


@pytest.mark.parametrize("length", [len(CONTENT) - 7, len(CONTENT) + 7])
def test_wrong_content_length_never_makes_a_file(dest: Path, length: int) -> None:
    with misbehaving(CONTENT, Behaviour(length=length)) as server:
        error = user_error(fetch, server, dest)
    assert error.code == "wrong-bytes"
    assert not dest.exists()


def test_wrong_content_length_fails_without_a_pin(dest: Path) -> None:
    act = Behaviour(length=len(CONTENT) + 7, ranges=False)
    with misbehaving(CONTENT, act) as server:
        error = user_error(fetch, server, dest, sha256="", size=None)
    assert error.code == "download-broken"
    assert not dest.exists()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_temporary_error_is_retried(dest: Path, status: int) -> None:
    with misbehaving(CONTENT, Behaviour(status=status), Behaviour()) as server:
        assert fetch(server, dest).state == "fetched"
        assert len(server.asked) == 2


def test_attempts_are_limited(dest: Path) -> None:
    with misbehaving(CONTENT, Behaviour(status=503)) as server:
        with pytest.raises(UserError, match="503") as caught:
            fetch(server, dest)
        assert len(server.asked) == QUICK.attempts
    assert caught.value.code == "download-broken"
    assert not dest.exists()


def test_progress_restarts_the_count_of_attempts(dest: Path) -> None:
    pieces = [Behaviour(stop_at=len(CONTENT) // 10) for _ in range(3 * QUICK.attempts)]
    with misbehaving(CONTENT, *pieces, Behaviour()) as server:
        assert fetch(server, dest).sha256 == sha(CONTENT)


def test_retry_after_in_seconds_is_obeyed(dest: Path) -> None:
    busy = Behaviour(status=429, headers={"Retry-After": "1"})
    with misbehaving(CONTENT, busy, Behaviour()) as server:
        started = time.monotonic()
        fetch(server, dest)
    assert time.monotonic() - started >= 1


def test_retry_after_date_is_relative_to_the_servers_clock(dest: Path) -> None:
    elsewhere = time.time() - 30 * 86400  # a clock that is a month late
    date = email.utils.formatdate(elsewhere, usegmt=True)
    busy = {"Retry-After": email.utils.formatdate(elsewhere + 1, usegmt=True)}
    with misbehaving(CONTENT, Behaviour(status=503, headers=busy), Behaviour()) as server:
        server.RequestHandlerClass.date_time_string = lambda *_: date  # type: ignore[attr-defined]  # http.server's own Date
        try:
            started = time.monotonic()
            fetch(server, dest)
            assert 1 <= time.monotonic() - started < 20
        finally:
            del server.RequestHandlerClass.date_time_string  # type: ignore[attr-defined]  # as above


def test_too_long_retry_after_fails(dest: Path) -> None:
    busy = Behaviour(status=429, headers={"Retry-After": "3600"})
    with misbehaving(CONTENT, busy) as server, pytest.raises(UserError, match="3600 s"):
        fetch(server, dest)


@pytest.mark.parametrize(("status", "hint"), [(401, "token"), (403, "token"), (404, "address")])
def test_refusal_is_not_retried_and_has_a_hint(dest: Path, status: int, hint: str) -> None:
    with misbehaving(CONTENT, Behaviour(status=status)) as server:
        error = user_error(fetch, server, dest)
        assert len(server.asked) == 1
    assert error.code == "download-refused"
    assert hint in error.hint


def test_file_that_changed_between_attempts_is_fetched_again(dest: Path) -> None:
    script = [Behaviour(stop_at=HALF), Behaviour(etag='"two"', content=OTHER)]
    with misbehaving(CONTENT, *script) as server:
        found = fetch(server, dest, sha256="", size=None)
    assert dest.read_bytes() == OTHER
    assert found.sha256 == sha(OTHER)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (Behaviour(etag=""), Behaviour(etag="")),
        (Behaviour(etag='W/"one"'), Behaviour()),
        (Behaviour(), Behaviour(etag='"two"', conditions=False)),
    ],
    ids=["no-etag", "weak-etag", "if-range-ignored"],
)
def test_unpinned_file_is_never_made_of_two(dest: Path, first: Behaviour, then: Behaviour) -> None:
    script = [replace(first, stop_at=HALF), replace(then, content=OTHER)]
    with misbehaving(CONTENT, *script) as server:
        fetch(server, dest, sha256="", size=None)
    assert dest.read_bytes() == OTHER


def test_resumed_bytes_of_another_file_are_replaced(dest: Path) -> None:
    with misbehaving(OTHER, Behaviour(stop_at=HALF, etag="")) as server, pytest.raises(UserError):
        fetch(server, dest, policy=RetryPolicy(attempts=1))
    assert partial_path(dest).stat().st_size == HALF
    with misbehaving(CONTENT, Behaviour(etag="")) as server:
        assert fetch(server, dest).sha256 == sha(CONTENT)
    assert dest.read_bytes() == CONTENT


def test_without_pin_and_validator_nothing_is_resumed(dest: Path) -> None:
    with misbehaving(OTHER, Behaviour(stop_at=HALF, etag="")) as server, pytest.raises(UserError):
        fetch(server, dest, policy=RetryPolicy(attempts=1), sha256="", size=None)
    with misbehaving(CONTENT, Behaviour(etag="")) as server:
        fetch(server, dest, sha256="", size=None)
        assert "Range" not in server.asked[0].headers
    assert dest.read_bytes() == CONTENT


def test_the_next_run_resumes(dest: Path) -> None:
    with misbehaving(CONTENT, Behaviour(stop_at=HALF), Behaviour(status=503)) as server:
        with pytest.raises(UserError, match=f"{HALF} bytes are kept"):
            fetch(server, dest)
        server.script = [Behaviour()]
        found = fetch(server, dest)
    assert (found.state, found.received) == ("resumed", len(CONTENT) - HALF)
    assert dest.read_bytes() == CONTENT


def test_run_killed_after_the_last_byte_needs_no_download(dest: Path) -> None:
    with misbehaving(CONTENT, Behaviour(stop_at=HALF), Behaviour(status=503)) as server:
        with pytest.raises(UserError):
            fetch(server, dest, sha256="", size=None)
        with partial_path(dest).open("ab") as stream:
            stream.write(CONTENT[HALF:])
        server.script = [Behaviour()]
        found = fetch(server, dest, sha256="", size=None)
    assert (found.received, found.sha256) == (0, sha(CONTENT))


def test_server_that_ignores_ranges_restarts_the_file(dest: Path) -> None:
    script = [Behaviour(stop_at=HALF), Behaviour(ranges=False)]
    with misbehaving(CONTENT, *script) as server:
        assert fetch(server, dest).sha256 == sha(CONTENT)
    assert dest.read_bytes() == CONTENT


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_body_longer_than_expected_is_discarded(dest: Path, chunked: bool) -> None:
    act = Behaviour(content=CONTENT * 20, chunked=chunked)
    taken: list[int] = []
    with misbehaving(CONTENT, act) as server:
        error = user_error(
            fetch_verified,
            spec_of(server),
            dest,
            policy=QUICK,
            on_progress=lambda _, done, *__: taken.append(done),
        )
    assert error.code == "wrong-bytes"
    assert max(taken) < 2 * len(CONTENT)
    assert list(dest.parent.iterdir()) == []


def test_resumed_download_keeps_its_range_through_a_redirect(dest: Path) -> None:
    away = Behaviour(status=302, headers={"Location": "/cdn"})
    script = [away, Behaviour(stop_at=HALF), away, Behaviour()]
    with misbehaving(CONTENT, *script) as server:
        fetch(server, dest)
        assert [asked.path for asked in server.asked] == ["/file", "/cdn"] * 2
        assert server.asked[3].headers["Range"] == f"bytes={HALF}-"
        assert server.asked[3].headers["If-Range"] == '"one"'
    assert dest.read_bytes() == CONTENT


def test_redirect_loop_ends(dest: Path) -> None:
    loop = Behaviour(status=302, headers={"Location": "/file"})
    with misbehaving(CONTENT, loop) as server, pytest.raises(UserError, match="without end"):
        fetch(server, dest)


def test_token_goes_to_its_own_host_only(dest: Path) -> None:
    with misbehaving(CONTENT) as elsewhere:
        away = Behaviour(status=302, headers={"Location": f"{elsewhere.url}/cdn"})
        home = Behaviour(status=308, headers={"Location": "/moved"})
        with misbehaving(b"", home, away) as server:
            fetch_verified(spec_of(server), dest, policy=QUICK, token="secret")  # noqa: S106 - not one
            sent = [asked.headers.get("Authorization") for asked in server.asked]
        assert sent == ["Bearer secret", "Bearer secret"]
        assert "Authorization" not in elsewhere.asked[0].headers


def test_redirect_to_a_local_file_is_refused(dest: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    away = Behaviour(status=302, headers={"Location": (tmp_path / "secret").as_uri()})
    with misbehaving(b"", away) as server:
        error = user_error(fetch, server, dest)
    assert error.code == "download-refused"


def test_redirect_from_https_to_http_is_refused(dest: Path, tmp_path: Path) -> None:
    with misbehaving(CONTENT) as plain:
        away = Behaviour(status=302, headers={"Location": f"{plain.url}/file"})
        with misbehaving(CONTENT, away) as server:
            policy = RetryPolicy(ca_bundle=str(serve_tls(server, tmp_path)))
            spec = ArtifactSpec(f"{server.url.replace('http:', 'https:')}/file", "file.dat")
            with pytest.raises(UserError, match="unsafe place"):
                fetch_verified(spec, dest, policy=policy)
        assert plain.asked == []


def test_netrc_is_not_used(dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    away = Behaviour(status=302, headers={"Location": "/cdn"})
    with misbehaving(CONTENT, away, Behaviour()) as server:
        fetch(server, dest)
        assert not [asked for asked in server.asked if "Authorization" in asked.headers]


def test_messages_never_show_a_query(dest: Path) -> None:
    with misbehaving(CONTENT, Behaviour(status=404)) as server:
        asked = ArtifactSpec(f"{server.url}/file?token=secret", "file.dat")
        error = user_error(fetch_verified, asked, dest, policy=QUICK)
    assert "secret" not in str(error)

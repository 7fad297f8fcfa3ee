"""Downloads that are killed, crowded, short of disk, proxied or distrusted."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.common.download import fetch_verified
from scripts.common.errors import Failure
from scripts.common.line import Line
from scripts.common.partial import partial_path
from scripts.common.wanted import Fetched, Wanted
from scripts.host.config.load import ROOT
from tests.standins.fault_server import Behaviour, FaultServer, misbehaving
from tests.standins.tls import serve_tls
from tests.unit.checkout import make_checkout
from tests.unit.downloading import CONTENT, QUICK, fetch, leftovers, sha, wanted


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "store" / "file"


def test_two_at_once_share_one_download(dest: Path) -> None:
    found: list[Fetched] = []
    waiting = threading.Event()

    def second() -> None:
        def watch(state: str, *_: object) -> None:
            if state == "waiting":
                waiting.set()

        found.append(fetch_verified(wanted(server), dest, line=QUICK, watch=watch))

    with misbehaving(CONTENT, Behaviour(rate=6_000_000)) as server:
        begun = threading.Event()

        def first_watch(state: str, *_: object) -> None:
            if state == "fetching" and not begun.is_set():
                begun.set()
                other.start()
                assert waiting.wait(10)

        other = threading.Thread(target=second)
        first = fetch_verified(wanted(server), dest, line=QUICK, watch=first_watch)
        other.join(10)
        assert len(server.asked) == 1
    assert (first.state, found[0].state) == ("fetched", "waited")
    assert leftovers(dest) == ["file.stamp"]


def test_a_changed_file_in_the_store_is_reported_not_used(dest: Path) -> None:
    with misbehaving(CONTENT) as server:
        fetch(server, dest)
        with dest.open("r+b") as stream:
            stream.write(b"damage")
        with pytest.raises(Failure) as caught:
            fetch(server, dest)
    assert caught.value.code == "model-damaged"


FETCH = """
import sys
from pathlib import Path
from scripts.common.download import fetch_verified
from scripts.common.errors import Failure
from scripts.common.line import Line
from scripts.common.wanted import Wanted
url, dest, sha256, size = sys.argv[1:]
def watch(state, *_):
    print(state, flush=True)
try:
    wanted = Wanted(url, "file.dat", sha256, int(size) or None)
    print(fetch_verified(wanted, Path(dest), line=Line(attempts=2, pause=0.01), watch=watch).state)
except Failure as failure:
    print(failure)
    sys.exit(1)
"""


def command(server: FaultServer, dest: Path, size: int = len(CONTENT)) -> list[str]:
    words = (f"{server.url}/file", str(dest), sha(CONTENT), str(size))
    return [sys.executable, "-c", FETCH, *words]


def test_killed_at_twenty_random_moments_the_final_name_is_never_wrong(dest: Path) -> None:
    moments = random.Random(3)  # noqa: S311 - moments, not secrets
    with misbehaving(CONTENT, Behaviour(rate=12_000_000)) as server:
        survived = 0
        for _ in range(20):
            with subprocess.Popen(command(server, dest), stdout=subprocess.PIPE) as process:
                assert process.stdout
                process.stdout.readline()  # it has begun
                time.sleep(moments.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
            if dest.exists():
                survived += 1
                assert dest.read_bytes() == CONTENT
                for path in (dest, *dest.parent.glob("file.*")):
                    path.unlink()
            elif partial_path(dest).exists():
                part = partial_path(dest).read_bytes()
                assert CONTENT.startswith(part)
        assert survived < 20
        server.script = [Behaviour()]
        done = subprocess.run(command(server, dest), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] in ("resumed", "fetched")
    assert dest.read_bytes() == CONTENT
    assert leftovers(dest) == ["file.stamp"]


def in_small_world(mount: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace of its own, after a mount."""
    script = f'{mount} && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return subprocess.run([*unshare, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def needs_namespaces(tmp_path: Path) -> None:
    if (
        sys.platform != "linux"
        or in_small_world(f"mount -t tmpfs none {tmp_path}", ["true"]).returncode
    ):
        pytest.skip("this machine lets nobody mount in a namespace of their own")


@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_full_disk_is_one_clear_line_and_no_file(tmp_path: Path, chunked: bool) -> None:
    keep = tmp_path / "listing"
    mount = f"mount -t tmpfs -o size=1m none {tmp_path / 'store'}"
    (tmp_path / "store").mkdir()
    with misbehaving(CONTENT, Behaviour(chunked=chunked)) as server:
        words = command(server, tmp_path / "store" / "file", 0)
        look = f'"$@"; code=$?; ls {tmp_path}/store >{keep}; exit $code'
        done = in_small_world(mount, ["sh", "-c", look, "sh", *words])
    assert done.returncode == 1, done.stderr
    assert "[disk-full]" in done.stdout.splitlines()[-1]
    assert "file" not in keep.read_text().split()


@pytest.mark.usefixtures("needs_namespaces")
def test_a_read_only_store_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    mount = f"mount -t tmpfs -o ro none {tmp_path / 'store'}"
    with misbehaving(CONTENT) as server:
        done = in_small_world(mount, command(server, tmp_path / "store" / "file"))
    assert done.returncode == 1, done.stderr
    assert "[store-unwritable]" in done.stdout.splitlines()[-1]


def test_memory_stays_small_whatever_the_size(dest: Path) -> None:
    content = bytes(200_000_000)
    measured = FETCH + (
        # not ru_maxrss: that begins with what the forking test itself had
        "import re\nstatus = open('/proc/self/status').read()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)\n"
    )
    with misbehaving(content) as server:
        words = (f"{server.url}/file", str(dest), sha(content), str(len(content)))
        done = subprocess.run(
            [sys.executable, "-c", measured, *words], capture_output=True, text=True, check=True
        )
    assert int(done.stdout.split()[-1]) < 100  # MB, of which Python itself is about 25


def test_an_untrusted_certificate_is_named_and_a_bundle_cures_it(
    dest: Path, tmp_path: Path
) -> None:
    with misbehaving(CONTENT) as server:
        cert = serve_tls(server, tmp_path)
        asked = Wanted(f"{server.url.replace('http:', 'https:')}/file", "file.dat", sha(CONTENT))
        with pytest.raises(Failure) as caught:
            fetch_verified(asked, dest, line=QUICK)
        assert caught.value.code == "certificate"
        assert "ca_bundle" in caught.value.cure
        fetch_verified(asked, dest, line=Line(ca_bundle=str(cert)))
    assert dest.read_bytes() == CONTENT


def test_a_certificate_out_of_its_time_points_at_the_clock(dest: Path, tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        cert = serve_tls(server, tmp_path, days=0)
        asked = Wanted(f"{server.url.replace('http:', 'https:')}/file", "file.dat", sha(CONTENT))
        with pytest.raises(Failure, match="expired") as caught:
            fetch_verified(asked, dest, line=Line(ca_bundle=str(cert)))
    assert "clock" in caught.value.cure
    assert not dest.exists()


def test_a_proxy_in_the_environment_is_used(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving(CONTENT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        asked = Wanted("http://models.invalid/file", "file.dat", sha(CONTENT))
        fetch_verified(asked, dest, line=QUICK)
        assert proxy.asked[0].path == "http://models.invalid/file"
    assert dest.read_bytes() == CONTENT


def test_a_file_system_without_locks_still_gets_a_verified_file(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:  # no file system at hand is really without
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with misbehaving(CONTENT) as server:
        assert fetch(server, dest).state == "fetched"
    assert dest.read_bytes() == CONTENT
    assert leftovers(dest) == ["file.stamp"]


def test_an_interrupt_ends_at_once_and_the_next_run_resumes(tmp_path: Path) -> None:
    store = tmp_path / "c" / "models"
    with misbehaving(CONTENT, Behaviour(rate=1_000_000)) as server:
        source = {"url": f"{server.url}/file.dat"}
        model = {"name": "m", "source": source, "path": "/file.dat", "sha256": sha(CONTENT)}
        root = make_checkout(tmp_path / "c", model)
        environment = {**os.environ, "IMAGE_CONFIG": str(root / "config.local.yaml")}
        words = [sys.executable, "-m", "invoke", "models.prefetch", "--json"]
        with subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            # As at a terminal: whoever runs the tests in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as run:
            assert run.stdout
            while '"fetching"' not in run.stdout.readline():
                pass
            run.send_signal(signal.SIGINT)
            run.wait(20)
        assert run.returncode == 130
        assert [path.name for path in store.rglob("*") if path.name == sha(CONTENT)] == []
        server.script = [Behaviour()]
        done = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
    assert '"state": "resumed"' in done.stdout

"""Download through kills, concurrency, full disks, proxies and untrusted certificates."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.partial import partial_path
from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy, VerifiedFile
from scripts.common.fetch.transfer import fetch_verified
from scripts.host.config.load import ROOT
from tests.support.checkout import from_url, make_checkout
from tests.support.downloading import CONTENT, HALF, QUICK, fetch, leftovers, sha, spec_of
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, FaultServer, misbehaving
from tests.support.namespaces import needs_namespaces, run_with_mount
from tests.support.tls import serve_tls


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "store" / "file"


def test_concurrent_fetches_share_one_download(dest: Path) -> None:
    found: list[VerifiedFile] = []
    waiting = threading.Event()

    def second() -> None:
        def watch(state: str, *_: object) -> None:
            if state == "waiting":
                waiting.set()

        found.append(fetch_verified(spec_of(server), dest, policy=QUICK, on_progress=watch))

    with misbehaving(CONTENT, Behaviour(rate=6_000_000)) as server:
        begun = threading.Event()

        def first_watch(state: str, *_: object) -> None:
            if state == "fetching" and not begun.is_set():
                begun.set()
                other.start()
                assert waiting.wait(10)

        other = threading.Thread(target=second)
        first = fetch_verified(spec_of(server), dest, policy=QUICK, on_progress=first_watch)
        other.join(10)
        assert len(server.asked) == 1
    assert (first.state, found[0].state) == ("fetched", "waited")
    assert leftovers(dest) == ["file.stamp"]


def test_changed_file_is_refused(dest: Path) -> None:
    with misbehaving(CONTENT) as server:
        fetch(server, dest)
        with dest.open("r+b") as stream:
            stream.write(b"damage")
        error = user_error(fetch, server, dest)
    assert error.code == "model-damaged"


FETCH = """
import sys
from pathlib import Path
from scripts.common.fetch.transfer import fetch_verified
from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import RetryPolicy
from scripts.common.fetch.spec import ArtifactSpec
url, dest, sha256, size = sys.argv[1:]
def watch(state, *_):
    print(state, flush=True)
try:
    spec = ArtifactSpec(url, "file.dat", sha256, int(size) or None)
    print(fetch_verified(spec, Path(dest), policy=RetryPolicy(attempts=2, pause=0.01),
        on_progress=watch).state)
except UserError as failure:
    print(failure)
    sys.exit(1)
"""


def command(server: FaultServer, dest: Path, size: int = len(CONTENT)) -> list[str]:
    arguments = (f"{server.url}/file", str(dest), sha(CONTENT), str(size))
    return [sys.executable, "-c", FETCH, *arguments]


def test_final_name_is_verified_after_any_kill(dest: Path) -> None:
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


@needs_namespaces
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_full_disk_is_one_line_and_no_file(tmp_path: Path, chunked: bool) -> None:
    keep = tmp_path / "listing"
    mount = f"mount -t tmpfs -o size=1m none {tmp_path / 'store'}"
    (tmp_path / "store").mkdir()
    with misbehaving(CONTENT, Behaviour(chunked=chunked)) as server:
        arguments = command(server, tmp_path / "store" / "file", 0)
        look = f'"$@"; code=$?; ls {tmp_path}/store >{keep}; exit $code'
        done = run_with_mount(mount, ["sh", "-c", look, "sh", *arguments])
    assert done.returncode == 1, done.stderr
    assert "[disk-full]" in done.stdout.splitlines()[-1]
    assert "file" not in keep.read_text().split()


@needs_namespaces
def test_read_only_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    mount = f"mount -t tmpfs -o ro none {tmp_path / 'store'}"
    with misbehaving(CONTENT) as server:
        done = run_with_mount(mount, command(server, tmp_path / "store" / "file"))
    assert done.returncode == 1, done.stderr
    assert "[store-unwritable]" in done.stdout.splitlines()[-1]


def test_memory_is_independent_of_the_file_size(dest: Path) -> None:
    content = bytes(200_000_000)
    measured = FETCH + (
        # not ru_maxrss: that begins with what the forking test itself had
        "import re\nstatus = open('/proc/self/status').read()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024)\n"
    )
    with misbehaving(content) as server:
        arguments = (f"{server.url}/file", str(dest), sha(content), str(len(content)))
        done = subprocess.run(
            [sys.executable, "-c", measured, *arguments], capture_output=True, text=True, check=True
        )
    assert int(done.stdout.split()[-1]) < 100  # MB, of which Python itself is about 25


def test_untrusted_certificate_needs_a_ca_bundle(dest: Path, tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        cert = serve_tls(server, tmp_path)
        asked = ArtifactSpec(
            f"{server.url.replace('http:', 'https:')}/file", "file.dat", sha(CONTENT)
        )
        error = user_error(fetch_verified, asked, dest, policy=QUICK)
        assert error.code == "certificate"
        assert "ca_bundle" in error.hint
        fetch_verified(asked, dest, policy=RetryPolicy(ca_bundle=str(cert)))
    assert dest.read_bytes() == CONTENT


def test_expired_certificate_hints_at_the_clock(dest: Path, tmp_path: Path) -> None:
    with misbehaving(CONTENT) as server:
        cert = serve_tls(server, tmp_path, days=0)
        asked = ArtifactSpec(
            f"{server.url.replace('http:', 'https:')}/file", "file.dat", sha(CONTENT)
        )
        with pytest.raises(UserError, match="expired") as caught:
            fetch_verified(asked, dest, policy=RetryPolicy(ca_bundle=str(cert)))
    assert "clock" in caught.value.hint
    assert not dest.exists()


def test_proxy_of_the_environment_is_used(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with misbehaving(CONTENT) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        asked = ArtifactSpec("http://models.invalid/file", "file.dat", sha(CONTENT))
        fetch_verified(asked, dest, policy=QUICK)
        assert proxy.asked[0].path == "http://models.invalid/file"
    assert dest.read_bytes() == CONTENT


def test_file_system_without_locks_gets_a_verified_file(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:  # no file system at hand is really without
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with misbehaving(CONTENT) as server:
        assert fetch(server, dest).state == "fetched"
    assert dest.read_bytes() == CONTENT
    assert leftovers(dest) == ["file.stamp"]


PREFETCH = [sys.executable, "-m", "invoke", "models.prefetch", "--json"]


def behind_url(server: FaultServer, root: Path) -> dict[str, str]:
    """Make a checkout with one model of that server; return the environment that selects it."""
    made = make_checkout(
        root, from_url(f"{server.url}/file.dat", path="/file.dat", sha256=sha(CONTENT))
    )
    return {**os.environ, "IMAGE_CONFIG": str(made / "config.local.yaml")}


def interrupted(environment: dict[str, str], state: str) -> subprocess.Popen[str]:
    """Interrupt a prefetch in a state and return the ended process."""
    with subprocess.Popen(
        PREFETCH,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        # As at a terminal: what runs in the background of a script inherits that it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout
        while f'"{state}"' not in run.stdout.readline():
            pass
        run.send_signal(signal.SIGINT)
        run.wait(10)  # far less than a stalled peer is given
    return run


def test_interrupt_ends_at_once_and_the_next_run_resumes(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Behaviour(stop_at=HALF, how="stall"), Behaviour()) as server:
        environment = behind_url(server, tmp_path / "c")
        assert interrupted(environment, "fetching").returncode == 130
        objects = (tmp_path / "c" / "models").glob("objects/*/*")
        assert [path.name for path in objects if path.name == sha(CONTENT)] == []
        done = subprocess.run(
            PREFETCH, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
    assert '"state": "resumed"' in done.stdout


def test_interrupt_ends_a_run_that_waits_for_another(tmp_path: Path) -> None:
    with misbehaving(CONTENT, Behaviour(stop_at=HALF, how="stall")) as server:
        environment = behind_url(server, tmp_path / "c")
        first = subprocess.Popen(
            PREFETCH, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert first.stdout
        while '"fetching"' not in first.stdout.readline():
            pass
        try:
            assert interrupted(environment, "waiting").returncode == 130
            assert first.poll() is None
        finally:
            first.kill()
            first.communicate()


def test_killed_prefetch_leaves_only_verified_final_names(
    tmp_path: Path,
) -> None:
    moments = random.Random(4)  # noqa: S311 - moments, not secrets
    store = tmp_path / "c" / "models"
    with misbehaving(CONTENT, Behaviour(rate=30_000_000)) as server:
        environment = behind_url(server, tmp_path / "c")
        ends = []
        for _ in range(8):
            with subprocess.Popen(
                PREFETCH,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as run:
                assert run.stdout
                run.stdout.readline()
                time.sleep(moments.uniform(0, 0.25))
                run.kill()
            final = [*store.glob("names/*/*"), *store.glob(f"objects/*/{sha(CONTENT)}")]
            ends.append(len(final))
            assert all(path.read_bytes() == CONTENT for path in final)
            if len(final) == 2:
                shutil.rmtree(store)
        assert 0 in ends
        subprocess.run(PREFETCH, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (store / "names" / "u" / "file.dat").read_bytes() == CONTENT

"""How fast models are fetched and verified, beside what a user would otherwise type.

    python -m benchmarks.models [--size 2000000000] [--rounds 5] [--dir FOLDER]

Everything runs on this machine over loopback against `tests.support.hub`, which sends each file
from the page cache with sendfile, alike to all. Ratios are of medians of whole-process wall time,
in turns. What is timed ends for ours with the file hashed, checked and flushed to disk; curl, wget,
hf and aria2c neither hash nor flush. Prints the ratios, and writes them with the times to
`benchmarks/results/models.json`. A tool that is missing is left out. Exit code 1 when a ratio
misses its limit.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.racing import RSS, Measured, Runner, race
from benchmarks.record import Ratio, report
from scripts.common.fetch.hashing import sha256_of
from scripts.host.console import size

ROOT = Path(__file__).resolve().parents[1]
PYTHON = shlex.quote(sys.executable)
HF = shlex.quote(str(Path(sys.executable).with_name("hf")))


@contextmanager
def hub(root: Path, rate: int = 0) -> Iterator[str]:
    """The stand-in Hub in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--root", str(root), "--port", str(port), "--rate", str(rate)]
    command = [sys.executable, "-m", "tests.support.hub", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout  # noqa: S101 - asked for above
        server.stdout.readline()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def make_file(path: Path, length: int) -> Path:
    """A file of random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for start in range(0, length, 1 << 24):
            stream.write(os.urandom(min(1 << 24, length - start)))
    return path


def fetch_command(url: str, sha256: str) -> str:
    """This project's download as a process of its own."""
    code = (
        "from pathlib import Path;"
        "from scripts.common.fetch.download import fetch_verified;"
        "from scripts.common.fetch.artifact import ArtifactSpec;"
        f"fetch_verified(ArtifactSpec({url!r}, 'm.dat', {sha256!r}), Path('m'));" + RSS
    )
    return f"{PYTHON} -c {shlex.quote(code)}"


def one_file(folder: Path, length: int, rounds: int) -> tuple[list[Ratio], list[Measured]]:
    """One large file, fetched and verified."""
    source = make_file(folder / "hub" / "o" / "big" / "m.bin", length)
    sha256 = sha256_of(source)
    with hub(folder / "hub") as url:
        file = f"{url}/o/big/resolve/main/m.bin"
        subprocess.run(["curl", "-sILo", "/dev/null", file], check=True)  # it hashes once
        check = f"echo '{sha256}  m' | sha256sum -c -"
        ours = Runner("ours", fetch_command(file, sha256))
        curl = Runner("curl", f"curl -sSfL -o m {file}", "curl")
        slower = (
            Runner("wget + sha256sum", f"wget -qO m {file}; {check}", "wget"),
            Runner(
                "hf + sha256sum",
                f"{HF} download o/big m.bin --local-dir .; mv m.bin m; {check}",
            ),
            Runner(
                "aria2c -x16 + sha256sum", f"aria2c -q -x16 -s16 -o m '{file}'; {check}", "aria2c"
            ),
        )
        environment = {"HF_ENDPOINT": url, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hf")}
        # The close race gets more rounds than the ones that are decided at once.
        found = race(slower, folder / "race", max(1, rounds // 2), environment)
        found = race((ours, curl), folder / "race", 2 * rounds, environment) | found
    mine = found["ours"]
    ratios = [
        Ratio(f"fetch + verify {size(length)} / {name}", mine.seconds / each.seconds, limit)
        for name, each in found.items()
        if name != "ours"
        for limit in [1.10 if name == "curl" else 1.0]
    ]
    ratios.append(Ratio("its peak memory, MB", mine.peak / 1e6, 150))
    return ratios, list(found.values())


def existing_file(folder: Path, rounds: int) -> tuple[list[Ratio], list[Measured]]:
    """The same file, verified where it lies; then two of them at once."""
    source = folder / "hub" / "o" / "big" / "m.bin"
    path = shlex.quote(str(source))
    imports = "from pathlib import Path; from scripts.common.fetch.hashing import sha256_of"
    ours = f"{imports}; paths = [{str(source)!r}]"
    once = f"{ours}; sha256_of(Path(paths[0]))"
    pool = "from concurrent.futures import ThreadPoolExecutor as Pool"
    cores = os.cpu_count() or 1
    many = f"{ours} * {cores}; {pool}; list(Pool({cores}).map(lambda p: sha256_of(Path(p)), paths))"
    runners = (
        Runner("ours, one file", f"{PYTHON} -c {shlex.quote(once)}"),
        Runner("openssl dgst", f"openssl dgst -sha256 {path}", "openssl"),
        Runner(f"ours, {cores} files", f"{PYTHON} -c {shlex.quote(many)}"),
    )
    found = race(runners, folder / "verify", rounds, {"PYTHONPATH": str(ROOT)})
    one, several = found["ours, one file"], found[f"ours, {cores} files"]
    ratios = [
        Ratio("verify / openssl dgst", one.seconds / found["openssl dgst"].seconds, 1.10),
        Ratio(
            f"verify of {cores} files on {cores} cores, speed-up",
            cores * one.seconds / several.seconds,
            0.75 * cores,
            is_most=False,
        ),
    ]
    return ratios, list(found.values())


def write_config(folder: Path, models: list[dict[str, Any]], **more: Any) -> dict[str, str]:  # noqa: ANN401 - config values
    """A config of these models only, and the environment that makes `invoke` use it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"models": models, **more}), encoding="utf-8")
    return {"IMAGE_CONFIG": str(config), "MODELS_STORE": str(folder / "store"), "NO_COLOR": "1"}


def invoke(environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and peak memory in bytes of one `invoke models.prefetch`, the whole process."""
    command = [sys.executable, "-m", "invoke", "models.prefetch"]
    with tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise SystemExit(errors.read()[-500:])
    return seconds, used.ru_maxrss * 1024


def several_files(folder: Path, length: int, rate: int) -> list[Ratio]:
    """Four files from a server that limits each connection, against one such connection."""
    sha256 = {}
    for i in range(4):
        file = make_file(folder / "four" / "o" / "four" / f"{i}.bin", length)
        sha256[file.name] = sha256_of(file)

    def model(name: str) -> dict[str, Any]:
        source = {"hub": "o/four", "file": name, "revision": "main"}
        common = {"path": f"/{name}", "sha256": sha256[name], "allow_pickle": True}
        return {"name": f"m{name}", "source": source, **common}

    with hub(folder / "four", rate) as url:
        for name in sha256:  # it hashes each file once
            subprocess.run(["curl", "-sIo", "/dev/null", f"{url}/o/four/resolve/main/{name}"])
        mirrors = {"mirrors": {"huggingface": url}}
        names = sorted(sha256)
        one, _ = invoke(write_config(folder / "single", [model(names[0])], **mirrors))
        all_four = write_config(folder / "parallel", [model(name) for name in names], **mirrors)
        four, peak = invoke(all_four)
    return [
        Ratio("four limited connections / one, speed", 4 * one / four, 3.5, is_most=False),
        Ratio("peak memory of four at once, MB", peak / 1e6, 150),
    ]


def nothing_to_do(folder: Path, rounds: int) -> Ratio:
    """A second prefetch of twenty models, the whole process."""
    models = []
    for i in range(20):
        file = make_file(folder / "twenty" / f"{i}.dat", 1000)
        source = {"url": file.as_uri()}
        models.append({"name": f"m{i}", "source": source, "path": f"/{i}.dat"})
        models[-1]["sha256"] = sha256_of(file)
    environment = write_config(folder / "again", models)
    invoke(environment)
    median = statistics.median(invoke(environment)[0] for _ in range(max(rounds, 5)))
    return Ratio("second prefetch of 20 models, s", median, 0.3)


def main() -> None:
    """Measure, print, write."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("--size", type=int, default=2_000_000_000, help="bytes of the large file")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--dir", type=Path, default=None, help="scratch space, 4 x size")
    given = words.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as scratch:
        folder = Path(scratch)
        ratios, times = one_file(folder, given.size, given.rounds)
        more_ratios, more_times = existing_file(folder, given.rounds)
        ratios += [
            *more_ratios,
            *several_files(folder, given.size // 4, rate=given.size // 20),
            nothing_to_do(folder, given.rounds),
        ]
    sys.exit(report("models", ratios, [asdict(each) for each in times + more_times]))


if __name__ == "__main__":
    main()

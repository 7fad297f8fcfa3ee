"""Compare how fast models are fetched and verified with other tools.

    python -m benchmarks.models [--size 2000000000] [--rounds 5] [--dir FOLDER]

Everything runs on this machine over loopback against `tests.support.hub`, which sends each file
from the page cache with sendfile, alike to all. Ratios are of medians of whole-process wall time,
in turns. Ours ends with the file hashed, checked and flushed to disk; curl, wget, hf and aria2c
neither hash nor flush. Prints the ratios, and writes them with the times to
`benchmarks/results/models.json`. A tool that is missing is left out. Exit code 1 when a ratio
misses its limit.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.compare import (
    RECORD_PEAK,
    Command,
    Measurement,
    measure,
    measure_commands,
)
from benchmarks.environment import (
    hub_model,
    hub_process,
    make_file,
    run_prefetch,
    write_model_config,
)
from benchmarks.record import Ratio, make_parser, report
from scripts.common.units import size
from scripts.host.config.load import ROOT

PYTHON = shlex.quote(sys.executable)
HF = shlex.quote(str(Path(sys.executable).with_name("hf")))


def fetch_command(url: str, sha256: str) -> str:
    """Return the shell command of this project's download in a process of its own."""
    code = (
        "from pathlib import Path;"
        "from scripts.common.fetch.transfer import fetch_verified;"
        "from scripts.common.fetch.spec import ArtifactSpec;"
        f"fetch_verified(ArtifactSpec({url!r}, 'm.dat', {sha256!r}), Path('m'));" + RECORD_PEAK
    )
    return f"{PYTHON} -c {shlex.quote(code)}"


def one_file(
    folder: Path, length: int, sha256: str, rounds: int
) -> tuple[list[Ratio], list[Measurement]]:
    """Fetch and verify one large file."""
    with hub_process(folder / "hub") as url:
        file = f"{url}/o/big/resolve/main/m.bin"
        subprocess.run(["curl", "-sILo", "/dev/null", file], check=True)  # the Hub hashes it once
        check = f"echo '{sha256}  m' | sha256sum -c -"
        hf = f"{HF} download o/big m.bin --local-dir .; mv m.bin m; {check}"
        aria2c = f"aria2c -q -x16 -s16 -o m '{file}'; {check}"
        slower = (
            Command("wget + sha256sum", f"wget -qO m {file}; {check}", "wget"),
            Command("hf + sha256sum", hf),
            Command("aria2c -x16 + sha256sum", aria2c, "aria2c"),
        )
        close = (
            Command("ours", fetch_command(file, sha256)),
            Command("curl", f"curl -sSfL -o m {file}", "curl"),
        )
        environment = {"HF_ENDPOINT": url, "PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hf")}
        # The close comparison gets more rounds than those that differ by a factor.
        scratch = folder / "fetch"
        found = measure_commands("fetch", close, scratch, 2 * rounds, environment)
        found |= measure_commands("fetch", slower, scratch, max(1, rounds // 2), environment)
    ours = found["ours"].median
    limits = {"curl": 1.10} | {command.name: 1.0 for command in slower}
    ratios = [
        Ratio(f"fetch + verify {size(length)} / {name}", ours / found[name].median, limit)
        for name, limit in limits.items()
        if name in found
    ]
    peak = max(found["ours, peak"].values)
    ratios.append(Ratio("its peak memory, MB", peak / 1e6, 150))
    return ratios, list(found.values())


def existing_file(path: Path, folder: Path, rounds: int) -> tuple[list[Ratio], list[Measurement]]:
    """Verify the same file where it lies; then one for each core at once."""
    imports = "from pathlib import Path; from scripts.common.fetch.hashing import sha256_of"
    ours = f"{imports}; paths = [{str(path)!r}]"
    once = f"{ours}; sha256_of(Path(paths[0]))"
    pool = "from concurrent.futures import ThreadPoolExecutor as Pool"
    cores = os.cpu_count() or 1
    many = f"{ours} * {cores}; {pool}; list(Pool({cores}).map(lambda p: sha256_of(Path(p)), paths))"
    openssl = f"openssl dgst -sha256 {shlex.quote(str(path))}"
    commands = (
        Command("ours, one file", f"{PYTHON} -c {shlex.quote(once)}"),
        Command("openssl dgst", openssl, "openssl"),
        Command(f"ours, {cores} files", f"{PYTHON} -c {shlex.quote(many)}"),
    )
    environment = {"PYTHONPATH": str(ROOT)}
    found = measure_commands("verify", commands, folder / "verify", rounds, environment)
    one, several = found["ours, one file"].median, found[f"ours, {cores} files"].median
    speed_up = f"verify of {cores} files on {cores} cores, speed-up"
    ratios = [
        Ratio("verify / openssl dgst", one / found["openssl dgst"].median, 1.10),
        Ratio(speed_up, cores * one / several, 0.75 * cores, is_most=False),
    ]
    return ratios, list(found.values())


def several_files(folder: Path, length: int, rate: int) -> tuple[list[Ratio], list[Measurement]]:
    """Prefetch four files from a server that limits each connection, and one of them alone."""
    repository = folder / "four" / "o" / "four"
    models = [
        hub_model("o/four", f"{number}.bin", make_file(repository / f"{number}.bin", length))
        for number in range(4)
    ]
    with hub_process(folder / "four", rate) as url:
        for model in models:  # the Hub hashes each file once
            file = f"{url}/o/four/resolve/main/{model['source']['file']}"
            subprocess.run(["curl", "-sIo", "/dev/null", file], check=True)
        mirrors = {"huggingface": url}
        single = write_model_config(folder / "single", models[:1], mirrors=mirrors)
        one, _ = run_prefetch(single)
        four, peak = run_prefetch(write_model_config(folder / "all", models, mirrors=mirrors))
    measurements = [
        Measurement("prefetch, limited connections", "one file", "s", (one,)),
        Measurement("prefetch, limited connections", "four files", "s", (four,)),
        Measurement("prefetch, peak memory", "four files", "bytes", (peak,)),
    ]
    ratios = [
        Ratio("four limited connections / one, speed", 4 * one / four, 3.5, is_most=False),
        Ratio("peak memory of four at once, MB", peak / 1e6, 150),
    ]
    return ratios, measurements


def nothing_to_do(folder: Path, rounds: int) -> tuple[list[Ratio], list[Measurement]]:
    """Prefetch twenty models a second time."""
    models = []
    for number in range(20):
        file = folder / "twenty" / f"{number}.dat"
        checksum = make_file(file, 1000)
        source = {"url": file.as_uri()}
        place = {"name": f"m{number}", "source": source, "path": f"/{number}.dat"}
        models.append({**place, "sha256": checksum})
    variables = write_model_config(folder / "again", models)
    run_prefetch(variables)
    again = measure(
        "second prefetch", {"20 models": lambda _: run_prefetch(variables)[0]}, max(rounds, 5)
    )["20 models"]
    return [Ratio("second prefetch of 20 models, s", again.median, 0.3)], [again]


def main() -> int:
    """Measure, print, write; 1 when a ratio misses its limit."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=2_000_000_000, help="bytes of the large file")
    parser.add_argument("--dir", type=Path, default=None, help="scratch space, 4 x size")
    options = parser.parse_args()
    length, rounds = options.size, options.rounds
    with tempfile.TemporaryDirectory(dir=options.dir) as scratch:
        folder = Path(scratch)
        source = folder / "hub" / "o" / "big" / "m.bin"
        sha256 = make_file(source, length)
        found = (
            one_file(folder, length, sha256, rounds),
            existing_file(source, folder, rounds),
            several_files(folder, length // 4, rate=length // 20),
            nothing_to_do(folder, rounds),
        )
    ratios = [ratio for ratios, _ in found for ratio in ratios]
    return report("models", ratios, [each for _, measured in found for each in measured])


if __name__ == "__main__":
    sys.exit(main())

"""Compare starts of a worker with an extension on its volume: the first one, and later ones.

    python -m benchmarks.extensions [--rounds 5]

The extension asks pip for 10 packages of 3 MB and one that is built, from an index on this machine
that sends 10 MB/s. Real pip, real worker, a stand-in for the WebUI; what is compared is the time
until the WebUI's process starts. Prints the ratios of the medians and writes all times to
`benchmarks/results/extensions.json`. Exit code 1 when a ratio misses its limit.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.compare import measure
from benchmarks.record import Ratio, make_parser, report
from scripts.common.pip_cache.log_statistics import read_runs
from scripts.host.console import note
from tests.support.pip_index import sdist
from tests.support.wheels import make_wheel, serve_index
from tests.support.worker import Worker

PACKAGES = 10
BYTES = 3_000_000
RATE = 10_000_000  # bytes a second
LIMITS = {"pip's cache is there": 0.75, "packages are there": 0.25}
FIRST = "nothing is there"
CACHE = ("pip/http", "pip/http-v2", "pip/wheels")  # on the volume; the first until pip 23.2


def fill(tmp: Path) -> None:
    """Make the packages, and a volume with the extension."""
    names = [f"package_{number}" for number in range(PACKAGES)]
    for name in names:
        make_wheel(tmp / "index", name, files={f"{name}.bin": os.urandom(BYTES)})
    (tmp / "index/built_here-1.0.tar.gz").write_bytes(sdist())
    extension = tmp / "volume/extensions/needs"
    extension.mkdir(parents=True)
    (extension / "requirements.txt").write_text("\n".join([*names, "built-here"]))


def start(tmp: Path, index: str) -> float:
    """Start a worker, and return the seconds until its WebUI was started."""
    shutil.rmtree(tmp / "worker", ignore_errors=True)
    worker = Worker(
        tmp,
        VOLUME_DIR=str(tmp / "volume"),
        POD_VOLUME_DIR=str(tmp / "none"),
        IMAGE_EXTENSIONS=str(tmp / "none"),
        PIP_CACHE_DIR=str(tmp / "volume/pip"),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL=index,
        PIP_TRUSTED_HOST="127.0.0.1",  # or pip caches nothing that comes by plain HTTP
    )
    try:
        state = worker.ready()
        if any(state.extensions.values()):
            raise RuntimeError(f"the extension is broken: {state.extensions}")
        return state.seconds["started"]
    finally:
        worker.stop()


def main() -> int:
    """Measure, print and record; 1 when a limit is missed."""
    options = make_parser(__doc__).parse_args()
    with TemporaryDirectory() as folder:
        tmp = Path(folder)
        fill(tmp)

        def after(*removed: str) -> Callable[[int], float]:
            def run(_: int) -> float:
                for name in removed:
                    shutil.rmtree(tmp / "volume" / name, ignore_errors=True)
                return start(tmp, index)

            return run

        with serve_index(tmp / "index", RATE) as index:
            packages = ".cache/a1111/extensions"
            found = measure(
                "start of the WebUI",
                {
                    FIRST: after(packages, *CACHE),
                    "pip's cache is there": after(packages),
                    "packages are there": after(),
                },
                options.rounds,
            )
        runs = read_runs(tmp / "volume/pip")
    note(f"pip: {runs.runs} runs, hit rate {runs.hit_rate:.0%}, {runs.saved_seconds:.1f} s saved")
    first = found[FIRST].median
    ratios = [
        Ratio(f"start where {case} : where {FIRST}", found[case].median / first, limit)
        for case, limit in LIMITS.items()
    ]
    return report("extensions", ratios, list(found.values()))


if __name__ == "__main__":
    sys.exit(main())

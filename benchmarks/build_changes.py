"""Compare builds of both candidates: clean, after small changes, and with none."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.candidates import BASELINE, build_baseline, build_ours, run
from benchmarks.compare import Measurement, measure, seconds
from benchmarks.environment import BuildEnvironment, run_prefetch
from scripts.host.config.load import load
from scripts.host.console import note
from tests.support.plain_build import plain_build_command

OURS_TAG, BASELINE_TAG = "bench/ours", "bench/baseline"
PINNED = "tqdm"
PINS = ("4.66.1", "4.66.2", "4.66.4", "4.66.5", "4.66.6", "4.67.0", "4.67.1")
QUICK, QUICK_ROUNDS = 60.0, 5


def build_image(environment: BuildEnvironment) -> None:
    """Build with this project."""
    build_ours(environment.checkout, environment.variant, OURS_TAG, environment.variables)


def build_baseline_image(environment: BuildEnvironment, *options: str) -> None:
    """Build the baseline."""
    build_baseline(environment.inputs, BASELINE_TAG, environment.variables, *options)


def build_both(environment: BuildEnvironment) -> None:
    """Build both, so that only a later change is left to do."""
    build_image(environment)
    build_baseline_image(environment)


def compare(
    quantity: str, rounds: int, candidates: Mapping[str, Callable[[int], float]]
) -> list[Measurement]:
    """Interleave builds; those that take less than a minute run at least five times."""

    def printed(name: str) -> Callable[[int], float]:
        def run_and_print(turn: int) -> float:
            took = candidates[name](turn)
            note(f"   {quantity}, {name}: {took:.2f} s")
            return took

        return run_and_print

    runs = {name: printed(name) for name in candidates}
    found = measure(quantity, runs, rounds)
    if rounds < QUICK_ROUNDS and all(max(each.values) < QUICK for each in found.values()):
        shifted = {name: lambda turn, run=run: run(turn + rounds) for name, run in runs.items()}
        more = measure(quantity, shifted, QUICK_ROUNDS - rounds)
        return [
            Measurement(quantity, name, "s", each.values + more[name].values)
            for name, each in found.items()
        ]
    return list(found.values())


def clean(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Build with no layer, package or source cached, and no model; ours with its models, too."""

    def build_clean(
        build: Callable[[BuildEnvironment], None], *, keep_models: bool = False
    ) -> float:
        environment.clear_caches(keep_models=keep_models)
        return seconds(lambda: build(environment))

    def build_with_models(_: int) -> float:
        run_prefetch(environment.variables)
        return build_clean(build_image, keep_models=True)

    return compare(
        "clean",
        rounds,
        {
            "ours": lambda _: build_clean(build_image),
            "ours, models stored": build_with_models,
            "baseline": lambda _: build_clean(build_baseline_image),
        },
    )


def script(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Build after an edit of a script that the container runs."""
    build_both(environment)

    def after_edit(build: Callable[[BuildEnvironment], None]) -> Callable[[int], float]:
        def build_edited(turn: int) -> float:
            edit_scripts(environment, turn)
            return seconds(lambda: build(environment))

        return build_edited

    return compare(
        "script",
        rounds,
        {
            "ours": after_edit(build_image),
            "baseline": after_edit(build_baseline_image),
            "a build of one COPY": lambda turn: seconds(lambda: build_one_copy(environment, turn)),
        },
    )


def pin(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Build after a change of one Python package's version; no cache has its files yet."""
    build_both(environment)
    before = environment.layers(OURS_TAG)

    def ours(turn: int) -> float:
        repin(environment, PINS[turn])
        return seconds(lambda: build_image(environment))

    def baseline(turn: int) -> float:
        option = f"--build-arg=PINS={PINNED}=={PINS[turn]}"
        return seconds(lambda: build_baseline_image(environment, option))

    candidates = {"ours": ours, "baseline": baseline}
    times = compare("pin", min(rounds, len(PINS)), candidates)
    new = set(environment.layers(OURS_TAG)) - set(before)
    return [*times, Measurement("pin", "ours, new layers", "layers", (len(new),))]


def nothing(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Build with nothing changed, against plain `docker build` with the same arguments."""
    loaded = load(environment.variant, root=environment.checkout)
    with plain_build_command(loaded, "bench/plain") as command:

        def build_plainly() -> object:
            return run(command, environment.checkout, environment.variables)

        build_image(environment)
        build_plainly()
        return compare(
            "nothing",
            rounds,
            {
                "ours": lambda _: seconds(lambda: build_image(environment)),
                "plain": lambda _: seconds(build_plainly),
            },
        )


def added_bytes(environment: BuildEnvironment, rounds: int) -> list[Measurement]:
    """Count what each image holds beyond the base image and the model."""
    del rounds
    build_both(environment)
    inputs = environment.inputs
    model = int(inputs.arguments["MODEL_SIZE"])
    apart = environment.size(inputs.runtime_base.reference) + model
    return [
        Measurement("bytes", name, "bytes", (environment.size(tag) - apart,))
        for name, tag in (("ours", OURS_TAG), ("baseline", BASELINE_TAG))
    ]


def edit_scripts(environment: BuildEnvironment, turn: int) -> None:
    """Change a line of both candidates' scripts."""
    for name in ("scripts/container/__main__.py", f"{BASELINE}/src/handler.py"):
        path = environment.checkout / name
        path.write_text(f"{path.read_text()}\n# {turn} {time.monotonic()}\n")


def repin(environment: BuildEnvironment, version: str) -> None:
    """Lock another version of a package, as `invoke pin --python` would."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text(f"{PINNED}=={version}\n")
        uv = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps")
        more = ("--generate-hashes", "--no-header", "--no-annotate", str(wanted))
        block = run([*uv, *more], environment.checkout, {})
    lock = environment.checkout / environment.inputs.config.build.requirements
    entry = re.compile(rf"^{PINNED}==.*?(?=^\S)", flags=re.MULTILINE | re.DOTALL)
    text, count = entry.subn(lambda _: block, lock.read_text())
    if count != 1:
        raise SystemExit(f"{lock.name} does not lock {PINNED} once")
    lock.write_text(text)


def build_one_copy(environment: BuildEnvironment, turn: int) -> None:
    """Build the least that any rebuild costs: one small file copied onto the same base."""
    folder = environment.folder / "smallest"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(f"{turn} {time.monotonic()}")
    base = environment.inputs.runtime_base.reference
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY file /file\n")
    command = ["docker", "build", "--tag=bench/smallest", str(folder)]
    run(command, folder, environment.variables)

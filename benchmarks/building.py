"""Builds of both contestants in turns: clean, after small changes, and with none."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.answers import Answer
from benchmarks.contestants import USUAL, build_ours, build_usual, plain_command, run
from benchmarks.yard import Yard
from scripts.host.build.inputs import resolve
from scripts.host.certificates import certificate_context
from scripts.host.console import note

OURS, USUALLY = "bench/ours", "bench/usual"
PINNED = "tqdm"
PINS = ("4.66.1", "4.66.2", "4.66.4", "4.66.5", "4.66.6", "4.67.0", "4.67.1")


def ours(yard: Yard) -> None:
    """Build as this project does."""
    build_ours(yard.checkout, yard.variant, OURS, yard.environment)


def usual(yard: Yard, *words: str) -> None:
    """Build the usual way."""
    build_usual(yard.loaded, USUALLY, yard.environment, *words, root=yard.checkout)


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def in_turns(
    question: str, rounds: int, contestants: dict[str, Callable[[int], float]]
) -> list[Answer]:
    """Let each contestant run in every round; each is told the round and gives its seconds.

    What takes under a minute is asked five times at least.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    turn, slowest = 0, 0.0
    while turn < rounds or (turn < 5 and slowest < 60):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            times[name].append(contestants[name](turn))
            slowest = max(slowest, times[name][-1])
            note(f"   {question}, {name}: {times[name][-1]:.2f} s")
        turn += 1
    return [Answer(question, name, "s", tuple(each)) for name, each in times.items()]


def clean(yard: Yard, rounds: int) -> list[Answer]:
    """With no layer, no package, no source and no model here yet."""

    def afresh(build: Callable[[Yard], None]) -> float:
        yard.forget()
        return seconds(lambda: build(yard))

    return in_turns(
        "clean", rounds, {"ours": lambda _: afresh(ours), "usual": lambda _: afresh(usual)}
    )


def script(yard: Yard, rounds: int) -> list[Answer]:
    """After an edit of a script that the container runs."""
    warm(yard)
    return in_turns(
        "script",
        rounds,
        {
            "ours": lambda turn: seconds(lambda: ours(edited(yard, turn))),
            "usual": lambda turn: seconds(lambda: usual(edited(yard, turn))),
            "a build of one COPY": lambda turn: seconds(lambda: smallest(yard, turn)),
        },
    )


def pin(yard: Yard, rounds: int) -> list[Answer]:
    """After a change of one Python package's version; its files are in no cache yet."""
    warm(yard)
    before = yard.layers(OURS)

    def mine(turn: int) -> float:
        repin(yard, PINS[turn])
        return seconds(lambda: ours(yard))

    times = in_turns(
        "pin",
        min(rounds, len(PINS)),
        {
            "ours": mine,
            "usual": lambda turn: seconds(
                lambda: usual(yard, f"--build-arg=PINS={PINNED}=={PINS[turn]}")
            ),
        },
    )
    new = set(yard.layers(OURS)) - set(before)
    return [*times, Answer("pin", "ours, new layers", "layers", (len(new),))]


def nothing(yard: Yard, rounds: int) -> list[Answer]:
    """With nothing changed, against the plain command with the same arguments."""
    with certificate_context(yard.loaded.ca_bundle) as certificates:
        plain = plain_command(yard.loaded, "bench/plain", certificates)

        def plainly() -> object:
            return run(plain, yard.checkout, yard.environment)

        ours(yard)
        plainly()
        return in_turns(
            "nothing",
            rounds,
            {
                "ours": lambda _: seconds(lambda: ours(yard)),
                "plain": lambda _: seconds(plainly),
            },
        )


def added_bytes(yard: Yard, rounds: int) -> list[Answer]:
    """What each image holds beyond the base image and the model."""
    del rounds
    warm(yard)
    model = int(resolve(yard.loaded).arguments["MODEL_SIZE"])
    apart = yard.size(yard.loaded.config.base.runtime) + model
    return [
        Answer("bytes", name, "bytes", (yard.size(tag) - apart,))
        for name, tag in (("ours", OURS), ("usual", USUALLY))
    ]


def warm(yard: Yard) -> None:
    """Both built, so that a change is all there is to do."""
    ours(yard)
    usual(yard)


def edited(yard: Yard, turn: int) -> Yard:
    """Change a line of both contestants' scripts."""
    for name in ("scripts/container/__main__.py", f"{USUAL}/src/handler.py"):
        path = yard.checkout / name
        path.write_text(f"{path.read_text()}\n# {turn} {time.monotonic()}\n")
    return yard


def repin(yard: Yard, version: str) -> None:
    """Lock another version of a package, as `invoke pin --python` would."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text(f"{PINNED}=={version}\n")
        uv = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps")
        more = ("--generate-hashes", "--no-header", "--no-annotate", str(wanted))
        block = run([*uv, *more], yard.checkout, {})
    lock = yard.checkout / yard.loaded.config.build.requirements
    entry = re.compile(rf"^{PINNED}==.*?(?=^\S)", flags=re.MULTILINE | re.DOTALL)
    text, count = entry.subn(lambda _: block, lock.read_text())
    if count != 1:
        raise SystemExit(f"{lock.name} does not lock {PINNED} once")
    lock.write_text(text)


def smallest(yard: Yard, turn: int) -> None:
    """The least that any rebuild costs: one small file copied onto the same base."""
    folder = yard.folder / "smallest"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(f"{turn} {time.monotonic()}")
    (folder / "Dockerfile").write_text(f"FROM {yard.loaded.config.base.runtime}\nCOPY file /file\n")
    run(["docker", "build", "--tag=bench/smallest", str(folder)], folder, yard.environment)

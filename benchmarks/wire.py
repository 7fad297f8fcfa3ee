"""Compare how fast an image reaches another machine, by image store and compression.

    python -m benchmarks.wire [--folder DIR] [--rounds 3] [--weights 500]

The image has weights (half-precision normal numbers, which gzip and zstd shrink a little, as real
ones) and the packages of this Python, about 2 : 1 as in the worker's own, over a small Debian.
Today's way is Docker's own store, which compresses while it pushes; ours is containerd's, with each
`push.compression`. Without any compression, its layers show what no compression can save. All push
to one registry on this machine, and another engine with Docker's own store pulls and unpacks. Needs
root.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.candidates import run
from benchmarks.compare import Measurement, interleave, seconds
from benchmarks.record import Ratio, make_parser, report
from scripts.host.build.buildx import compressed_load
from scripts.host.console import note
from tests.support.engine import copy_image, engine
from tests.support.images import debian_root
from tests.support.registry import layers_of, registry

TODAY: Final = "Docker's store"
OURS: Final = ("gzip", "zstd")
STORES: Final = {
    TODAY: "--load",
    **{each: compressed_load(each) for each in OURS},
    "uncompressed": "--output=type=image,oci-mediatypes=true,compression=uncompressed",
}
DOCKERFILE: Final = """
ARG BASE
FROM $BASE
COPY --link model.safetensors /model.safetensors
COPY --link --from=packages . /opt/webui
"""
LIMITS: Final = {"push": 0.3, "pull, with the base": 0.5, "pull, without the base": 0.5}


def make_weights(path: Path, length: int) -> None:
    """Write half-precision numbers, drawn once for a block that is larger than zstd's window."""
    numbers = random.Random(0)  # noqa: S311 - weights, not secrets
    parts = (
        struct.pack("<1000e", *(numbers.gauss(0, 0.02) for _ in range(1000))) for _ in range(6000)
    )
    block = b"".join(parts)
    with path.open("wb") as stream:
        for start in range(0, length, len(block)):
            stream.write(block[: length - start])


class Wire:
    """The engines, a registry with the base image, and what is built."""

    def __init__(self, up: ExitStack, folder: Path, weights: int) -> None:
        self.folder = folder
        for name in ("docker", "containerd", "puller", "context"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.engines = {
            name: up.enter_context(engine(folder / name, containerd_store=name == "containerd"))
            for name in ("docker", "containerd", "puller")
        }
        make_weights(folder / "context/model.safetensors", weights)
        (folder / "context/Dockerfile").write_text(DOCKERFILE)
        copy_image(debian_root(), self.engines["docker"])
        with registry(folder / "base-only") as running:
            base = f"{running.address}/base:1"
            self.docker("docker", "tag", debian_root(), base)
            self.docker("docker", "push", "--quiet", base)

    def docker(self, name: str, *command: str) -> float:
        """Run docker with one of the engines; return the seconds it takes."""
        variables = {"DOCKER_HOST": self.engines[name]}
        return seconds(lambda: run(["docker", *command], self.folder, variables))

    def forget(self, name: str, *images: str) -> None:
        """Remove images and the builder's cache from an engine."""
        command = ["docker", "--host", self.engines[name], "image", "rm", "--force", *images]
        subprocess.run(command, capture_output=True, check=False)
        self.docker(name, "buildx", "prune", "--all", "--force")

    def measure(self, candidate: str, _turn: int) -> dict[str, float]:
        """Export, push and pull one image, with a registry that has nothing but the base."""
        root = self.folder / "registry"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.folder / "base-only", root)
        with registry(root) as running:  # at another port: an engine remembers what it has pushed
            found = self._measure(candidate, running.address)
        note(f"   {candidate}: " + ", ".join(f"{what} {took:.1f}" for what, took in found.items()))
        return found

    def _measure(self, candidate: str, address: str) -> dict[str, float]:
        name = "docker" if candidate == TODAY else "containerd"
        base, image = f"{address}/base:1", f"{address}/image:1"
        self.docker(name, "pull", "--quiet", base)
        packages = f"--build-context=packages={sysconfig.get_path('purelib')}"
        build = [
            *("buildx", "build", "--quiet", "--provenance=false", packages),
            *(f"--build-arg=BASE={base}", str(self.folder / "context")),
        ]
        self.docker(name, *build, "--output=type=cacheonly")
        found = {
            "export": self.docker(name, *build, STORES[candidate], f"--tag={image}"),
            "push": self.docker(name, "push", "--quiet", image),
        }
        self.forget(name, image, base)
        found["pull, without the base"] = self.docker("puller", "pull", "--quiet", image)
        self.forget("puller", image)
        self.docker("puller", "pull", "--quiet", base)
        found["pull, with the base"] = self.docker("puller", "pull", "--quiet", image)
        self.forget("puller", image, base)
        below, layers = (layers_of(address, each, "1") for each in ("base", "image"))
        if not below.keys() < layers.keys():
            raise SystemExit(f"{image} does not have the base's own layers")
        found["bytes"] = float(sum(layers.values()) - sum(below.values()))
        return found


def judge(
    values: Mapping[str, Sequence[Mapping[str, float]]],
) -> tuple[list[Ratio], list[Measurement]]:
    """Return the ratios to today's way, and what they are made of.

    Args:
        values: what each round of a candidate took, by candidate.
    """
    found = {
        (what, candidate): Measurement(
            what,
            candidate,
            "bytes" if what == "bytes" else "s",
            tuple(turn[what] for turn in turns),
        )
        for candidate, turns in values.items()
        for what in turns[0]
    }
    ratios = [
        Ratio(
            f"{what}: {candidate}, containerd's store / gzip, {TODAY}",
            found[what, candidate].median / found[what, TODAY].median,
            limit,
        )
        for what, limit in LIMITS.items()
        for candidate in OURS
    ]
    return ratios, list(found.values())


def main() -> int:
    """Measure, print and record; 1 when a limit is missed."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--folder", type=Path, help="scratch space, with a short path")
    parser.add_argument("--weights", type=int, default=500, help="MB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wire-") as scratch, ExitStack() as up:
        folder = (options.folder or Path(scratch)).resolve()
        wire = Wire(up, folder, options.weights * 10**6)
        runs: dict[str, Callable[[int], dict[str, float]]] = {
            candidate: partial(wire.measure, candidate) for candidate in STORES
        }
        values = interleave(runs, options.rounds)
    return report("wire", *judge(values))


if __name__ == "__main__":
    sys.exit(main())

"""What the tests of downloads share: contents, a quick line, and a fetch from a `FaultServer`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scripts.common.fetch.artifact import ArtifactSpec, VerifiedFile
from scripts.common.fetch.download import fetch_verified
from scripts.common.fetch.retry_policy import RetryPolicy
from tests.support.fault_server import FaultServer

CONTENT = hashlib.shake_128(b"one").digest(3_000_000)
OTHER = hashlib.shake_128(b"two").digest(3_000_000)
QUICK = RetryPolicy(attempts=3, pause=0.01, longest_pause=2.0, stall=1.5)
HALF = len(CONTENT) // 2


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanted(server: FaultServer, **changes: object) -> ArtifactSpec:
    known: dict[str, object] = {"sha256": sha(CONTENT), "size": len(CONTENT)}
    return ArtifactSpec(f"{server.url}/file", "file.dat", **{**known, **changes})  # type: ignore[arg-type]  # as the test says


def fetch(
    server: FaultServer, dest: Path, line: RetryPolicy = QUICK, **changes: object
) -> VerifiedFile:
    return fetch_verified(wanted(server, **changes), dest, line=line)


def leftovers(dest: Path) -> list[str]:
    return sorted(path.name for path in dest.parent.iterdir() if path.name != dest.name)

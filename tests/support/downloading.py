"""Provide contents, a quick retry policy and a fetch from a `FaultServer`, for download tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scripts.common.fetch.spec import ArtifactSpec, RetryPolicy, VerifiedFile
from scripts.common.fetch.transfer import fetch_verified
from tests.support.fault_server import FaultServer

CONTENT = hashlib.shake_128(b"one").digest(3_000_000)
OTHER = hashlib.shake_128(b"two").digest(3_000_000)
QUICK = RetryPolicy(attempts=3, pause=0.01, max_pause=2.0, stall_timeout=1.5)
HALF = len(CONTENT) // 2


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def spec_of(server: FaultServer, **changes: object) -> ArtifactSpec:
    known: dict[str, object] = {"sha256": sha(CONTENT), "size": len(CONTENT)}
    return ArtifactSpec(f"{server.url}/file", "file.dat", **{**known, **changes})  # type: ignore[arg-type]  # as the test says


def fetch(
    server: FaultServer, dest: Path, policy: RetryPolicy = QUICK, **changes: object
) -> VerifiedFile:
    return fetch_verified(spec_of(server, **changes), dest, policy=policy)


def leftovers(dest: Path) -> list[str]:
    return sorted(path.name for path in dest.parent.iterdir() if path.name != dest.name)

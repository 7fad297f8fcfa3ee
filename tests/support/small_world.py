"""Commands in a mount namespace of their own: full disks and read-only stores that are real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest


def in_small_world(mount: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command after a mount that nobody else sees."""
    script = f'{mount} && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return subprocess.run([*unshare, *words], capture_output=True, text=True, check=False)


def _is_possible() -> bool:
    return (
        sys.platform == "linux" and not in_small_world("mount -t tmpfs n /mnt", ["true"]).returncode
    )


needs_namespaces = pytest.mark.skipif(
    not _is_possible(), reason="this machine lets nobody mount in a namespace of their own"
)

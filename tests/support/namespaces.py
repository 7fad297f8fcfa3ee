"""Run commands in their own mount namespace, for real full disks and read-only stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest


def run_with_mount(mount: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command after a mount that no other process sees."""
    script = f'{mount} && exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return subprocess.run([*unshare, *command], capture_output=True, text=True, check=False)


def _is_possible() -> bool:
    return (
        sys.platform == "linux" and not run_with_mount("mount -t tmpfs n /mnt", ["true"]).returncode
    )


needs_namespaces = pytest.mark.skipif(
    not _is_possible(), reason="this machine lets nobody mount in a namespace of their own"
)

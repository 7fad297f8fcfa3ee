"""The container, from its start to the first picture, and who serves in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.smoke.container_under_test import Worker

Saw = Callable[[object], None]


@pytest.mark.fails_as("not-ready")
def test_container_reaches_ready(ready: Worker, saw: Saw) -> None:
    saw(", ".join(f"{name} after {seconds:.1f} s" for name, seconds in ready.phases.items()))
    assert "drawn" in ready.phases, "it says ready, but not that it drew"


@pytest.mark.fails_as("served-by-root")
def test_the_serving_process_is_not_root(ready: Worker, saw: Saw) -> None:
    code = "for p in $(pgrep -f [w]ebui.py); do stat -c %u /proc/$p; done"
    owners = ready.container.exec_run(["sh", "-c", code]).output.decode().split()
    saw(f"uid {', '.join(owners)}")
    assert owners, "no serving process"
    assert "0" not in owners, "it is root"


@pytest.mark.fails_as("tcmalloc-missing")
def test_the_serving_process_has_tcmalloc(ready: Worker, saw: Saw) -> None:
    # As the process's own user: another may not read its maps.
    code = "p=$(pgrep -f [w]ebui.py | head -1); exec grep -om1 '[^ /]*libtcmalloc.*' /proc/$p/maps"
    found = ready.container.exec_run(["sh", "-c", code], user="worker").output.decode().strip()
    saw(found)
    assert found.startswith("libtcmalloc"), "it is not mapped"

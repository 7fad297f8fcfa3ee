"""`mirrors.apt` serves all package lists, and the image's sources stay unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.host.config.load import ROOT
from scripts.host.engine.client import client
from tests.support.images import debian_root
from tests.support.serving import Quiet, Server, running

pytestmark = pytest.mark.engine

_SOURCES = """
deb http://deb.example/debian bookworm main
deb [trusted=yes] https://deb.example/debian bookworm-updates main
deb http://security.example/debian-security bookworm-security main
"""
_LINE = """
printf %s "$SOURCES" >/etc/apt/sources.list
/build/apt-install tini && exit 1
printf %s "$SOURCES" | cmp - /etc/apt/sources.list
"""


class Empty(Quiet):
    """A mirror without packages that records the requests."""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Record the path."""
        self.server.requested.add(self.path)  # type: ignore[attr-defined]  # see the fixture
        self.answer(404)


@pytest.fixture
def mirror() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Empty)
    server.requested = set()  # type: ignore[attr-defined]
    with running(server):
        yield server


@pytest.mark.parametrize("prefix", ["/a/debian", "/ubuntu", ""])
def test_the_mirror_serves_every_list_and_sources_are_unchanged(
    mirror: Server, prefix: str
) -> None:
    client().containers.run(
        debian_root(),
        ["bash", "-ec", _LINE],
        environment={
            **{"SOURCES": _SOURCES, "APT_MIRROR": f"{mirror.url}{prefix}"},
            **{"no_proxy": "127.0.0.1"},
        },
        volumes=[f"{ROOT}/scripts/image:/build:ro"],
        network_mode="host",
        remove=True,
    )
    requested: set[str] = mirror.requested  # type: ignore[attr-defined]
    lists = {path.removesuffix("/InRelease") for path in requested if path.endswith("/InRelease")}
    beside = prefix.removesuffix("/debian")
    assert lists == {
        *(f"{prefix}/dists/bookworm", f"{prefix}/dists/bookworm-updates"),
        f"{beside}/debian-security/dists/bookworm-security",
    }

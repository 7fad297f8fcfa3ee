"""Stand in for archives of snapshots: the same packages in other versions on other days.

It answers as snapshot.debian.org and snapshot.ubuntu.com do for a time in the path, also as an HTTP
proxy, so that their own addresses lead here. Its lists have expired, as those of the past have, and
have no signature: sources need `[trusted=yes]`.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.serving import Quiet, Server

VERSIONS: Mapping[str, str] = {"20260101T000000Z": "1.0", "20260201T000000Z": "2.0"}
"""Version of every package, by snapshot."""
PACKAGES = ("libgl1", "tini")

_RELEASE = """\
Date: Thu, 01 Jan 2026 00:00:00 UTC
Valid-Until: Thu, 08 Jan 2026 00:00:00 UTC
Components: main
Architectures: amd64
SHA256:
 {digest} {size} main/binary-amd64/Packages
"""
_DATED = re.compile(r"/(?:debian|debian-security|ubuntu)/(\d{8}T\d{6}Z)/(?:dists/[^/]+|pool)/(.+)")


class AptArchive(Server):
    """Serve one archive a snapshot, and record the addresses of package lists.

    Args:
        folder: for the packages.
    """

    def __init__(self, folder: Path) -> None:
        self.files = {day: _make_archive(folder / day, day) for day in VERSIONS}
        self.lists: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(Quiet):
    server: AptArchive

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        """Answer with a file of the snapshot that the path names."""
        if self.path.endswith("/InRelease"):
            self.server.lists.add(self.path.removesuffix("/InRelease"))
        dated = _DATED.search(self.path)
        content = self.server.files.get(dated[1], {}).get(dated[2]) if dated else None
        self.answer(404 if content is None else 200, content or b"")


def _make_archive(folder: Path, day: str) -> dict[str, bytes]:
    """Return the files of an archive by their path below `dists/SUITE` or `pool`."""
    files, entries = {}, []
    for name in PACKAGES:
        control = f"Package: {name}\nVersion: {VERSIONS[day]}\nArchitecture: amd64\n"
        control += "Maintainer: nobody <a@b.invalid>\nDescription: a stand-in\n"
        source = folder / name
        (source / "DEBIAN").mkdir(parents=True)
        (source / "DEBIAN/control").write_text(control)
        (source / "usr/share").mkdir(parents=True)
        (source / "usr/share" / name).write_text(day)
        build = ["dpkg-deb", "--root-owner-group", "--build", str(source), f"{source}.deb"]
        subprocess.run(build, check=True, capture_output=True)
        files[f"{name}.deb"] = content = Path(f"{source}.deb").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        entries.append(
            f"{control}Filename: pool/{name}.deb\nSize: {len(content)}\nSHA256: {digest}\n"
        )
    packages = "\n".join(entries).encode()
    digest = hashlib.sha256(packages).hexdigest()
    files["Release"] = _RELEASE.format(digest=digest, size=len(packages)).encode()
    files["main/binary-amd64/Packages"] = packages
    return files

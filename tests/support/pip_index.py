"""Serve a package index on loopback: one wheel and one source archive, cacheable as PyPI's are.

The archive builds without any other package, so that a test needs no network.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import serving

PADDING = b"# " + b"x" * 20_000 + b"\n"

_BACKEND = """
import pathlib, zipfile

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    for path, text in FILES.items():
        if ".dist-info/" in path:
            to = pathlib.Path(metadata_directory, path)
            to.parent.mkdir(exist_ok=True)
            to.write_text(text)
    return next(path for path in FILES if path.endswith("METADATA")).partition("/")[0]

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "built_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""


def _contents(project: str) -> dict[str, str]:
    """Return the files of a wheel with one module."""
    info = f"{project}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{project}.py": "here = True\n", f"{info}/METADATA": metadata, f"{info}/WHEEL": tags}
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    return {**files, f"{info}/RECORD": record}


def wheel(project: str) -> bytes:
    """Make a wheel, padded to a size worth counting."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in _contents(project).items():
            archive.writestr(name, text)
        archive.comment = PADDING[:60_000]
    return stream.getvalue()


def sdist(failure: str = "") -> bytes:
    """Make a source archive that contains its build backend.

    Args:
        failure: what its build ends with; empty for one that succeeds.
    """
    backend = _BACKEND + f"FILES = {_contents('built_here')!r}\n"
    if failure:
        backend += f"def build_wheel(*_, **__):\n    raise RuntimeError({failure!r})\n"
    project = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in (("pyproject.toml", project), ("own.py", backend)):
            item = tarfile.TarInfo(f"built_here-1.0/{name}")
            item.size = len(text)
            archive.addfile(item, io.BytesIO(text.encode()))
    return stream.getvalue()


FILES = {
    "fetched": ("fetched-1.0-py3-none-any.whl", wheel("fetched")),
    "built-here": ("built_here-1.0.tar.gz", sdist()),
}


class _Index(serving.Server):
    login = ""  # USER:PASSWORD that it asks for


class _Handler(serving.Quiet):
    server: _Index

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        given = self.headers.get("Authorization", "")
        if self.server.login and given != f"Basic {b64encode(self.server.login.encode()).decode()}":
            return self.answer(401, headers={"WWW-Authenticate": 'Basic realm="index"'})
        last = self.path.rstrip("/").rpartition("/")[2]
        for project, (name, data) in FILES.items():
            if last == name:
                kind = "application/octet-stream"
                return self.answer(
                    200, data, {"Content-Type": kind, "Cache-Control": "max-age=365000000"}
                )
            if last == project:
                link = f'<a href="/files/{name}">{name}</a>'.encode()
                return self.answer(
                    200, link, {"Content-Type": "text/html", "Cache-Control": "max-age=0"}
                )
        return self.answer(404)


@contextmanager
def running(login: str = "") -> Iterator[str]:
    """Serve the index until the block ends; its address, without the login that it asks for."""
    server = _Index(("127.0.0.1", 0), _Handler)
    server.login = login
    with serving.running(server):
        yield f"{server.url}/simple"

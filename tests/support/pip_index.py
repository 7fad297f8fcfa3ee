"""A package index on loopback with one wheel and one source archive, cacheable as PyPI's are.

The archive builds without any other package, so that a test needs no network.
"""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PADDING = b"# " + b"x" * 20_000 + b"\n"

_BACKEND = """
import pathlib, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "built_here-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
"""


def _contents(project: str) -> dict[str, str]:
    """What a wheel of a project with one module holds."""
    info = f"{project}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{project}.py": "here = True\n", f"{info}/METADATA": metadata, f"{info}/WHEEL": tags}
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    return {**files, f"{info}/RECORD": record}


def wheel(project: str) -> bytes:
    """A wheel, padded so that its size is worth counting."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in _contents(project).items():
            archive.writestr(name, text)
        archive.comment = PADDING[:60_000]
    return stream.getvalue()


def sdist() -> bytes:
    """A source archive that brings its own build backend."""
    backend = _BACKEND + f"FILES = {_contents('built_here')!r}\n"
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


@contextmanager
def running() -> Iterator[str]:
    """The index's address, until the block ends."""

    class Routes(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            last = self.path.rstrip("/").rpartition("/")[2]
            for project, (name, data) in FILES.items():
                if last == name:
                    return self._answer(data, "application/octet-stream", "max-age=365000000")
                if last == project:
                    link = f'<a href="/files/{name}">{name}</a>'.encode()
                    return self._answer(link, "text/html", "max-age=0")
            return self.send_error(404)

        def _answer(self, data: bytes, kind: str, keep: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", keep)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()

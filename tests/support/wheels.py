"""Make wheels, and serve a folder of them to pip, cacheable as PyPI's are."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.support import serving


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Make a wheel with one module of its name, which has the version, and return its path.

    Args:
        folder: of the wheel.
        name: of the package and its module.
        version: of the package.
        requires: what its metadata requires.
        files: further files by path.
    """
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata = "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires), ""])
    tags = "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = {
        f"{name}.py": f"version = {version!r}\n".encode(),
        **(files or {}),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": tags.encode(),
    }
    record = "".join(f"{path},,\n" for path in (*contents, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**contents, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(file, content)
    return path


@contextmanager
def serve_index(folder: Path, rate: int = 0) -> Iterator[str]:
    """Serve the wheels and source archives of a folder until the block ends.

    Args:
        folder: with files that begin with a package's name.
        rate: bytes a second and connection; 0 for no limit.

    Yields:
        Address for pip's `--index-url`.
    """

    class Handler(serving.Quiet):
        headers_of_files: ClassVar = {
            "Content-Type": "application/octet-stream",
            "Cache-Control": "max-age=365000000, immutable",
        }

        def do_GET(self) -> None:  # noqa: N802 - http.server's own name
            last = self.path.rstrip("/").rpartition("/")[2]
            if (folder / last).is_file():
                return self.answer_file(folder / last, self.headers_of_files)
            project = last.replace("-", "_")
            names = [path.name for path in folder.glob(f"{project}-*")]
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
            headers = {"Content-Type": "text/html", "Cache-Control": "max-age=0"}
            return self.answer(200 if names else 404, links.encode(), headers)

    server = serving.Server(("127.0.0.1", 0), Handler)
    server.rate = rate
    with serving.running(server):
        yield f"{server.url}/simple"

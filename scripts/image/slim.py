"""Takes from an environment what no program in the image uses, then compiles the rest.

    python slim.py VENV

That is: packages' own test suites, maps from shipped JavaScript to its source, descriptions of
services that nothing here talks to, and what of a shared library is never loaded (debug
information, symbols for linkers and debuggers).
"""

from __future__ import annotations

import compileall
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# RunPod's SDK stores pictures with S3 only; its library describes four hundred services.
_KEPT_SERVICES = {"s3", "sts"}
# The WebUI asks transformers for these. Others work too, but are compiled whenever imported.
_RARELY_IMPORTED = re.compile(r"transformers/models/(?!auto|bert|clip|roberta|t5|xlm_roberta)\w+/")
# Below this, a library is left as it is.
_WORTH_IT = 20_000


def unused(packages: Path) -> Iterator[Path]:
    """Folders and files that are there for developers of the packages, or for nobody here."""
    yield from packages.glob("**/tests")
    yield from packages.glob("**/*.js.map")
    for service in packages.glob("botocore/data/*/"):
        if service.is_dir() and service.name not in _KEPT_SERVICES:
            yield service


def loaded_length(head: bytes, size: int) -> int:
    """How much of a 64-bit ELF file is ever loaded; all of it where that is not clear.

    See elf(5): program headers say what is loaded, section headers are for linkers and debuggers.
    """
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return size
    offset = int.from_bytes(head[32:40], "little")
    entry, count = (int.from_bytes(head[at : at + 2], "little") for at in (54, 56))
    if entry != 56 or not count or offset + entry * count > len(head):
        return size
    ends = [offset + entry * count]
    for at in range(offset, offset + entry * count, entry):
        start, length = (
            int.from_bytes(head[part : part + 8], "little") for part in (at + 8, at + 32)
        )
        ends.append(start + length)
    return min(max(ends), size)


def strip(library: Path) -> int:
    """Cut off what is never loaded; the bytes saved."""
    size = library.stat().st_size
    with library.open("r+b") as file:
        keep = loaded_length(file.read(1 << 16), size)
        if size - keep < _WORTH_IT:
            return 0
        file.truncate(keep)
        file.seek(40)
        file.write(bytes(8))  # e_shoff: there is no table of sections
        file.seek(58)
        file.write(bytes(6))  # e_shentsize, e_shnum, e_shstrndx
    return size - keep


def main(venv: Path) -> None:
    """Slim one environment."""
    [packages] = venv.glob("lib/python3*/site-packages")
    for path in list(unused(packages)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it may have lain in a folder that is gone
    for library in packages.glob("**/*.so*"):
        if library.is_file() and not library.is_symlink():
            strip(library)
    # 2: errors are not shown; some packages carry files for Python 2.
    compileall.compile_dir(venv, quiet=2, workers=0, rx=_RARELY_IMPORTED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

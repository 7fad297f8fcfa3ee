"""Delete the files of an environment that no program in the image uses, and compile the rest.

    python slim.py VENV

Deleted are packages' own test suites, source maps of JavaScript, descriptions of AWS services other
than S3, and the parts of shared libraries that are never loaded (debug information, symbols for
linkers and debuggers).
"""

import compileall
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

# RunPod's SDK stores images with S3 only; its library describes four hundred services.
_KEPT_SERVICES = {"s3", "sts"}
# The WebUI imports these models of transformers. Others work too, but are compiled at each import.
_RARELY_IMPORTED = re.compile(r"transformers/models/(?!auto|bert|clip|roberta|t5|xlm_roberta)\w+/")
_LEAST_SAVING = 20_000  # bytes; a library that saves less is left unchanged


def unused(packages: Path) -> Iterator[Path]:
    """Yield folders and files that only developers of the packages need, or nobody here."""
    yield from packages.glob("**/tests")
    yield from packages.glob("**/*.js.map")
    for service in packages.glob("botocore/data/*/"):
        if service.is_dir() and service.name not in _KEPT_SERVICES:
            yield service


def loaded_length(head: bytes, size: int) -> int:
    """Return how many bytes of a 64-bit ELF file are loaded; its size if that is unclear.

    See elf(5): program headers describe what is loaded, section headers are for linkers and
    debuggers.
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
    """Truncate a library after its last loaded byte, and return the bytes saved."""
    size = library.stat().st_size
    with library.open("r+b") as file:
        keep = loaded_length(file.read(1 << 16), size)
        if size - keep < _LEAST_SAVING:
            return 0
        file.truncate(keep)
        file.seek(40)
        file.write(bytes(8))  # e_shoff: no table of sections
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
            path.unlink(missing_ok=True)  # its folder may have been deleted before
    for library in packages.glob("**/*.so*"):
        if library.is_file() and not library.is_symlink():
            strip(library)
    # 2: show no errors; some packages contain files for Python 2. Bytecode that is used without a
    # look at its source depends on no time, and saves a stat per import.
    compileall.compile_dir(
        venv,
        quiet=2,
        workers=0,
        rx=_RARELY_IMPORTED,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Runs a script as `python SCRIPT` does; beside it, notes what tcmalloc knows of its heap.

    python inside.py HEAP_FILE SCRIPT [WORDS...]

Only the process itself can ask its allocator. This runs on the WebUI's Python and imports nothing
but the standard library; in a process without tcmalloc it only runs the script.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import sys
import threading
from pathlib import Path

EVERY = 10.0  # seconds
# https://github.com/gperftools/gperftools/blob/gperftools-2.15/src/gperftools/malloc_extension.h
PROPERTIES = {
    "heap": b"generic.heap_size",
    "used": b"generic.current_allocated_bytes",
    "free": b"tcmalloc.pageheap_free_bytes",
}


def heap() -> dict[str, int]:
    """Bytes by name; empty without tcmalloc."""
    try:
        ask = ctypes.CDLL(None).MallocExtension_GetNumericProperty
    except AttributeError:
        return {}
    found, value = {}, ctypes.c_size_t()
    for name, key in PROPERTIES.items():
        if ask(key, ctypes.byref(value)):
            found[name] = value.value
    return found


def note_heap(target: Path) -> None:
    """Write the heap's size again and again, for as long as the process lives."""
    pause = threading.Event()
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    while found := heap():
        try:
            partial.write_text(json.dumps({"pid": os.getpid(), **found}), encoding="utf-8")
            partial.replace(target)
        except OSError:
            return  # a full disk; drawing goes on
        pause.wait(EVERY)


def main() -> None:
    """Become the script."""
    target, script = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    # Python put this file's folder there; the script expects its own.
    sys.path[0] = str(Path(script).resolve().parent)
    threading.Thread(target=note_heap, args=(target,), daemon=True).start()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()

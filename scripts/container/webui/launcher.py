"""Run a script as `python SCRIPT` does, but without what slows down its start.

Until it serves, no garbage is collected and inspect.stack() reads no source files; where
WEBUI_LAZY_IMPORTS is on, packages that it does not need to serve are imported at their first use
(`lazy_imports`). Beside it, write the heap statistics of tcmalloc to a file. Packages of extensions
come last on the path, so that they replace nothing of the image.

    python launcher.py HEAP_FILE HOST PORT SCRIPT [ARGUMENTS...]

Only the process itself can ask its allocator and its garbage collector. This runs on the WebUI's
Python and imports nothing but the standard library; without tcmalloc it writes no heap statistics.
"""

import ctypes
import gc
import inspect
import json
import os
import runpy
import site
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

INTERVAL = 10.0  # seconds
START_LIMIT = 300.0  # seconds after which garbage is collected whether it serves or not
# https://github.com/gperftools/gperftools/blob/gperftools-2.15/src/gperftools/malloc_extension.h
PROPERTIES = {
    "heap": b"generic.heap_size",
    "used": b"generic.current_allocated_bytes",
    "free": b"tcmalloc.pageheap_free_bytes",
}

LAZY_FINDER = "lazy_imports.lazy_finder"
HEADLINE = "Traceback (most recent call last):"
_EXIT = os._exit
_STACK = inspect.stack


def read_heap() -> dict[str, int]:
    """Return bytes by name; empty without tcmalloc."""
    try:
        get_property = ctypes.CDLL(None).MallocExtension_GetNumericProperty
    except AttributeError:
        return {}
    found, value = {}, ctypes.c_size_t()
    for name, key in PROPERTIES.items():
        if get_property(key, ctypes.byref(value)):
            found[name] = value.value
    return found


def write_heap(target: Path) -> None:
    """Write the heap statistics for as long as the process lives, if it has any."""
    if read_heap():
        write_again_and_again(target, lambda: {"pid": os.getpid(), **read_heap()})


def write_again_and_again(
    target: Path,
    collect: Callable[[], object],
    wait: Callable[[], object] = lambda: time.sleep(INTERVAL),
) -> None:
    """Write facts as JSON again and again, for as long as the process lives."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    while True:
        try:
            partial.write_text(json.dumps(collect()), encoding="utf-8")
            partial.replace(target)
        except OSError:
            return  # a full disk; drawing goes on
        wait()


def stack_without_sources(context: int = 1) -> list[inspect.FrameInfo]:  # noqa: ARG001 - inspect's own signature
    """Return the callers as inspect.stack() does: file, line and function, without source lines.

    The WebUI asks for the name of the calling file each time a script registers a callback
    (modules/script_callbacks.py). inspect.stack() searches every loaded module for the source of
    every frame: with the WebUI's six thousand modules that is a fifth of its start.
    """
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame:
        code = frame.f_code
        found.append(
            inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
        )
        frame = frame.f_back
    return found


def restore_once_serving(host: str, port: int, lazy_report: Path) -> None:
    """Switch the garbage collector and inspect.stack() back on when the port is open.

    Then write, for the smoke tests and again after each load, what was made of the lazy packages.

    The WebUI's imports create a million objects that stay. Searching them for garbage again and
    again is two fifths of the time that the imports take; objects that exist when it serves are
    never searched again, which makes later collections short.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            break
    gc.freeze()
    gc.enable()
    inspect.stack = _STACK
    if finder := sys.modules.get(LAZY_FINDER):
        write_again_and_again(lazy_report, finder.report, finder.wait_for_load)


def exit_with_traceback(status: int) -> NoReturn:
    """End the process as os._exit() does, which prints nothing, but print where an extension does.

    In a child that it has forked, that changes nothing else.
    """
    stack = traceback.extract_stack()[:-1]
    if any("/extensions/" in frame.filename for frame in stack):
        lines = traceback.format_list(stack)
        print(f"{HEADLINE}\n{''.join(lines)}os._exit({status})", file=sys.stderr, flush=True)
    _EXIT(status)


def run_script(script: str) -> None:
    """Run the script; where an extension ends the process, print where it does so."""
    os._exit = exit_with_traceback
    for folder in filter(None, os.environ.get("EXTENSION_PACKAGES", "").split(os.pathsep)):
        site.addsitedir(folder)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        # Python would print nothing. That of the server itself has no frame of an extension.
        frames = traceback.extract_tb(end.__traceback__)
        if any("/extensions/" in frame.filename for frame in frames):
            traceback.print_exception(end)
        raise


def main() -> None:
    """Become the script."""
    target, host, port, script = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    sys.argv = sys.argv[4:]
    if os.environ.get("WEBUI_LAZY_IMPORTS") == "on":
        import_module(LAZY_FINDER).make_lazy()
    # Python put this file's folder there; the script expects its own.
    sys.path[0] = str(Path(script).resolve().parent)
    threading.Thread(target=write_heap, args=(target,), daemon=True).start()
    gc.disable()
    inspect.stack = stack_without_sources
    lazy_report = target.with_name("lazy-imports.json")
    threading.Thread(
        target=restore_once_serving, args=(host, port, lazy_report), daemon=True
    ).start()
    run_script(script)


if __name__ == "__main__":
    main()

"""Record each call of pip, and answer it.

The folder above this one goes first on PYTHONPATH, so that `python -m pip` of any program that runs
there starts this file. Standard library only, of any Python 3: the Python is the extension's.

Reads PIP_RECORDER_LOG, the file that gets a line of JSON for each call (arguments, the files of
`-r` and `-c` by name, exit status), and PIP_RECORDER_ANSWER:

- `record`: `install`, `download`, `wheel` and `uninstall` do nothing and succeed;
- `run` (default): the real pip runs, but uninstalls nothing.

Any other command of pip, such as `list`, is the real one's in both cases.
"""

import json
import os
import runpy
import sys
from pathlib import Path

_CHANGES = ("install", "download", "wheel", "uninstall")


def _read_files(arguments: list[str]) -> dict[str, str]:
    """Return the files of `-r` and `-c`, and those that they name, by name as written."""
    files: dict[str, str] = {}
    names = _named_files(arguments)
    while names:
        name = names.pop()
        path = Path(name)
        if name in files or "://" in name or not path.is_file():
            continue
        files[name] = path.read_text(encoding="utf-8-sig", errors="replace")
        for line in files[name].splitlines():
            # A file names others relative to itself.
            names += [str(path.parent / each) for each in _named_files(line.split(" #")[0].split())]
    return files


def _named_files(words: list[str]) -> list[str]:
    found: list[str] = []
    for number, word in enumerate(words, 1):
        if word in ("-r", "--requirement", "-c", "--constraint"):
            found += words[number : number + 1]
        elif word.startswith(("--requirement=", "--constraint=")):
            found.append(word.split("=", 1)[1])
        elif word[:2] in ("-r", "-c") and len(word) > 2:
            found.append(word[2:])
    return found


def _run_real(arguments: list[str]) -> int:
    """Run the pip that this one hides, in this process."""
    own = Path(__file__).resolve().parents[1]
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != own]
    for name in [name for name in sys.modules if name == "pip" or name.startswith("pip.")]:
        del sys.modules[name]
    sys.argv = ["pip", *arguments]
    try:
        runpy.run_module("pip", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main() -> int:
    """Answer one call."""
    arguments = sys.argv[1:]
    command = next((word for word in arguments if not word.startswith("-")), "")
    log = os.environ.get("PIP_RECORDER_LOG")
    if command not in _CHANGES or not log:
        return _run_real(arguments)
    files, status = _read_files(arguments), 0
    try:
        if os.environ.get("PIP_RECORDER_ANSWER") != "record" and command != "uninstall":
            status = 1  # unless pip ends otherwise
            status = _run_real(arguments)
    finally:
        _record(log, {"arguments": arguments, "files": files, "status": status})
    return status


def _record(log: str, call: dict[str, object]) -> None:
    """Append a call to the log: one write, so that calls side by side do not mix their lines."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, (json.dumps(call) + "\n").encode())
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())

"""Read in the output of pip and of installers why packages are not there."""

import re
from collections.abc import Sequence
from typing import Final

_CONFLICT: Final = re.compile(r"ERROR: Cannot install .* conflicting dependencies")
_UNBUILT: Final = re.compile(
    r"Failed building wheel for "
    r"|(Getting requirements to build wheel|Preparing metadata \(\S+\)) (did not run|exited)"
)
_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+ ")  # before each line of pip's log
_LONGEST: Final = 300  # characters of a line that is shown


def describe_unsatisfied(unsatisfied: Sequence[str], log: str) -> str:
    """Return why an extension lacks packages; empty where it lacks none.

    Args:
        unsatisfied: what was asked for and is not there, a sentence each.
        log: of pip; its conflicts say more, and its last error is the reason without one.
    """
    if not unsatisfied:
        return ""
    if conflicts := find_conflicts(log):
        return "; ".join(conflicts)
    errors = re.findall(r"ERROR: (.+)", log)
    reason = f" ({errors[-1].strip()[:_LONGEST]})" if errors else ""
    return "; ".join(unsatisfied) + reason


def find_conflicts(log: str) -> list[str]:
    """Return both sides of each conflict that pip's log names.

    A conflict lists its causes, a line each, the candidates of one package from the newest on; the
    last line is the version of the image.
    """
    conflicts: list[str] = []
    causes: list[str] | None = None
    for raw in (*log.splitlines(), ""):
        line = _TIME.sub("", raw).rstrip()
        if _CONFLICT.match(line):
            causes = []
        elif causes is not None and line.startswith("    "):
            causes.append(_reword(line.strip()))
        elif causes:
            conflicts.append(", but ".join(dict.fromkeys((causes[0], causes[-1]))))
            causes = None
    return list(dict.fromkeys(conflicts))


def is_lasting(log: str) -> bool:
    """Return whether pip would fail again: a conflict, or a package that cannot be built here.

    Packages are built from source where the index has no wheel, and the image has no compiler.
    """
    is_full = "No space left on device" in log
    return bool(find_conflicts(log) or (_UNBUILT.search(log) and not is_full))


def _reword(cause: str) -> str:
    image = re.sub(
        r"The user requested \(constraint\) (\S+?)==(\S+)", r"the image has \1 \2", cause
    )
    return image.replace("The user requested", "its installer requests")


def last_line(text: str) -> str:
    """Return the last line of a program's output, as a person sees it."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"

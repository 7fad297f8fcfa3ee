"""Resolve what extensions ask for beside the WebUI's packages, and explain what excludes what."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.installed_packages import is_left_out
from scripts.common.extensions.locked_requests import ExtensionRequests, as_comments
from scripts.common.extensions.pip_requests import PipRequest, read_requirement_list
from scripts.host.config.addresses import GITHUB

_FOLDER = "extensions"
_OVERRIDES = f"{_FOLDER}/overrides.txt"


def write_inputs(
    scratch: Path, extensions: Sequence[ExtensionRequests], github: str = GITHUB
) -> tuple[str, ...]:
    """Write the requests of extensions as input of uv.

    Args:
        scratch: folder in which uv runs; what another lock left there is replaced.
        extensions: with their requests.
        github: mirror of GitHub, where uv looks for wheels that are kept there.

    Returns:
        Arguments of uv; none without extensions.
    """
    (scratch / "uv.toml").write_text(_dependency_metadata(extensions), encoding="utf-8")
    if not extensions:
        return ()
    (scratch / _FOLDER).mkdir(exist_ok=True)
    overrides = [override for each in extensions for override in each.overrides]

    def write(path: str, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in dict.fromkeys(lines))
        text = text.replace(f"@ {GITHUB}/", f"@ {github}/")
        (scratch / path).write_text(text, encoding="utf-8")

    write(_OVERRIDES, overrides)
    arguments = [f"--overrides={_OVERRIDES}"] if overrides else []
    for each in extensions:
        path = f"{_FOLDER}/{each.name}.in"  # uv names it in the lock's comments
        wanted = (request for request in each.requests if not is_left_out(request.name, overrides))
        write(path, (request.text for request in wanted))
        arguments.append(path)
    return tuple(arguments)


def _dependency_metadata(extensions: Iterable[ExtensionRequests]) -> str:
    """Return uv's settings for packages that are asked for without what they require.

    Another request for the same package with its requirements takes precedence.
    """
    requests = [request for each in extensions for request in each.requests]
    full = {request.name for request in requests if request.with_dependencies}
    bare = {request.name for request in requests} - full
    rows = "".join(f'  {{ name = "{name}", requires-dist = [] }},\n' for name in sorted(bare))
    return f"dependency-metadata = [\n{rows}]\n" if rows else ""


def describe_extensions(
    lock: str, extensions: Sequence[ExtensionRequests], github: str = GITHUB
) -> str:
    """Return the text of a lock with what it was made for, below uv's own two lines.

    Args:
        lock: as uv wrote it; its addresses become those of GitHub itself.
        extensions: with their requests.
        github: the mirror that uv used.
    """
    lock = lock.replace(f" @ {github}/", f" @ {GITHUB}/")
    lines = lock.splitlines(keepends=True)
    heading = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:heading]) + as_comments(extensions) + "".join(lines[heading:])


def explain_conflict(
    reason: str, extensions: Sequence[ExtensionRequests], lists: Mapping[str, str], location: str
) -> UserError | None:
    """Return the error for packages that exclude each other, with who asks for them.

    Args:
        reason: uv's explanation.
        extensions: with their requests.
        lists: of requirements that are not an extension's, by who asks for them.
        location: the lock.

    Returns:
        None if no extension asks for a package that uv names.
    """
    reason = " ".join(reason.split())
    named = set(re.findall(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", reason.lower()))

    def mentioned(requests: Iterable[PipRequest]) -> str:
        return ", ".join(dict.fromkeys(each.text for each in requests if each.name in named))

    sides = {each.name: mentioned(each.requests) for each in extensions}
    sides |= {name: mentioned(read_requirement_list(text, name)) for name, text in lists.items()}
    asking = {name: asked for name, asked in sides.items() if asked}
    if not asking.keys() - lists.keys():
        return None
    # The end says only that what is asked for cannot be had.
    because = re.split(r"\bcause: ", reason)[-1].partition(" And because you require")[0]
    sides_of = "; ".join(f"{name} asks for {asked}" for name, asked in asking.items())
    override = _suggest(because, [asking.get(name, "") for name in lists])
    hint = f"give the extension {override}: docs/how-to/extensions.md"
    if len(asking) == 1:
        message = f"{sides_of}, which cannot be had"
    else:
        message = f"{' and '.join(asking)} exclude each other: {sides_of}"
        hint = f"if they work together nevertheless, {hint}"
    return UserError(
        f"{message}. {because[:600].rstrip('.')}",
        location=location,
        hint=hint,
    )


def _suggest(because: str, kept: Sequence[str]) -> str:
    """Name the override that would settle a conflict, with the bounds of the extension's side."""
    bounds = re.findall(r"(\S+) depends? on ([\w.-]*\w)([<>=!~]\S*[\w*])", because)
    for subject, package, bound in bounds:
        others = {other for _, name, other in bounds if name == package} - {bound}
        is_kept = any(re.split(r"[<>=!~\[]", subject)[0] in asked for asked in kept)
        if others and not is_kept:
            return f'the override "{package}{bound}"'
    return "`overrides` with the bounds to take"

"""Compare the lock of the image's Python packages with what the config builds."""

import re
from collections.abc import Sequence

from scripts.common.extensions.locked_requests import ExtensionRequests, read_locked_requests
from scripts.common.extensions.pip_requests import CONFIG, to_requirement
from scripts.host.build.inputs import BuildInputs
from scripts.host.config.lock import ResolvedExtension

# uv names each input of a lock in its comments; the WebUI's list lies in a folder named by its ref.
_WEBUI_LIST = re.compile(r"# .*-r (\S+)/requirements_versions\.txt$", re.MULTILINE)


def find_lock_problem(inputs: BuildInputs) -> str:
    """Say why the lock of the image's Python packages does not fit the image; empty if it does."""
    lock = inputs.config.build.requirements
    path = inputs.root / lock
    if not path.is_file():
        return f"{lock} is missing"
    text = path.read_text(encoding="utf-8")
    ref = next(source.ref for source in inputs.sources if source.name == "webui")
    if made_for := set(_WEBUI_LIST.findall(text)) - {ref}:
        return f"{lock} is made for A1111 {', '.join(sorted(made_for))}, not {ref}"
    problem = _find_other_extension(inputs.extensions, read_locked_requests(text))
    return f"{lock} is made {problem}" if problem else ""


def _find_other_extension(
    built: Sequence[ResolvedExtension], locked: Sequence[ExtensionRequests]
) -> str:
    """Say for which other extensions a lock is made; empty if it is for those that are built."""
    wanted, found = {each.name: each for each in built}, {each.name: each for each in locked}
    if missing := wanted.keys() - found.keys():
        return f"without the extensions {', '.join(sorted(missing))}"
    if further := found.keys() - wanted.keys():
        return f"for the extensions {', '.join(sorted(further))}, too, which are not built"
    for name, extension in wanted.items():
        lock, config = found[name], extension.extension
        if extension.commit and extension.commit != lock.commit:
            return f"for {name} at {lock.commit}, not {extension.commit}"
        asked = {each.text for each in lock.requests if each.source == CONFIG}
        if asked != set(map(to_requirement, config.requirements)):
            return f"with other `requirements` of {name}"
        if set(lock.overrides) != set(config.overrides):
            return f"with other `overrides` of {name}"
        if lock.install != config.install:
            return f"with `install: {lock.install}` of {name}"
    return ""

"""Compare what extensions ask of pip with the packages that are installed.

An installer's exit status does not show it: ControlNet's prints a warning for what pip refused, and
ends with 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from scripts.common.extensions.pip_requests import PipRequest


@dataclass(frozen=True)
class Unsatisfied:
    """A request that the installed packages do not satisfy.

    Args:
        request: what was asked for.
        installed: version that is there; empty for none.
    """

    request: PipRequest
    installed: str

    def __str__(self) -> str:
        found = f"{self.request.name} {self.installed} is installed" if self.installed else ""
        missing = "it is not installed" if self.request.name else "that names no package"
        return f"{self.request.source} asks for {self.request.text}, but {found or missing}"


def installed_packages(path: Sequence[str] | None = None) -> dict[str, Distribution]:
    """Return the installed packages by canonical name, the first of several on the path.

    Args:
        path: folders, such as site-packages; this Python's own by default.
    """
    found: dict[str, Distribution] = {}
    for each in distributions() if path is None else distributions(path=list(path)):
        if name := each.metadata["Name"]:  # None where a file was deleted
            found.setdefault(canonicalize_name(name), each)
    return found


def find_unsatisfied(
    requests: Iterable[PipRequest],
    installed: Mapping[str, Distribution],
    overrides: Sequence[str] = (),
) -> tuple[Unsatisfied, ...]:
    """Compare requests with the installed packages, under the markers of this Python.

    Args:
        requests: what was asked for.
        installed: by canonical name, of `installed_packages`.
        overrides: requirements that replace the bounds of their package in all requests; one whose
            marker is never true, such as `dsine; python_version < '0'`, leaves its package out.
    """
    replaced = _by_name(overrides)
    found: list[Unsatisfied] = []
    for request in dict.fromkeys(requests):
        parsed = request.requirement
        if parsed is None:
            found.append(Unsatisfied(request, ""))
            continue
        if not applies(parsed):
            continue
        for bounds in replaced.get(request.name, [parsed]):
            if not applies(bounds):
                continue
            present = installed.get(request.name)
            if present is None or not _satisfies(present, bounds, installed, replaced):
                found.append(Unsatisfied(request, present.version if present else ""))
                break
    return tuple(found)


def is_left_out(name: str, overrides: Iterable[str]) -> bool:
    """Return whether overrides leave a package out: no marker of its overrides is ever true."""
    of_package = _by_name(overrides).get(canonicalize_name(name), [])
    return bool(of_package) and not any(applies(each) for each in of_package)


def _by_name(requirements: Iterable[str]) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, requirements):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def applies(requirement: Requirement) -> bool:
    """Return whether a requirement's marker is true for this Python, without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _satisfies(
    present: Distribution,
    bounds: Requirement,
    installed: Mapping[str, Distribution],
    replaced: Mapping[str, Sequence[Requirement]],
) -> bool:
    """Return whether a package is the one asked for, and has what its extras require."""
    if bounds.url and not _is_from(present, bounds.url):
        return False
    if not bounds.specifier.contains(present.version, prereleases=True):
        return False
    for extra in bounds.extras:
        for text in present.requires or ():
            needed = Requirement(text)
            if needed.marker is None or applies(needed):
                continue  # required without the extra, too
            name = canonicalize_name(needed.name)
            if name in replaced or not needed.marker.evaluate({"extra": extra}):
                continue
            other = installed.get(name)
            if other is None or not needed.specifier.contains(other.version, prereleases=True):
                return False
    return True


def _is_from(present: Distribution, url: str) -> bool:
    """Return whether a package can come from a URL: the version in a wheel's name decides."""
    file = unquote(PurePosixPath(urlsplit(url).path).name)
    if not file.endswith(".whl"):
        return True  # the name alone can be compared
    try:
        return str(parse_wheel_filename(file)[1]) == present.version
    except InvalidWheelFilename:
        return True

"""Run each extension's installer once, and fail if the image lacks a package that one asks for.

    python install-extensions.py EXTENSIONS WEBUI LOCK MODELS [FOLDER_OF_PYTHON_PACKAGES...]

Run by the WebUI's Python, without a network: pip answers from what is installed. EXTENSIONS has a
folder for each extension, and the manifest; what an installer writes into its own folder stays.
MODELS has the image's model files below `extra`, at their paths: an installer that finds its file
downloads none.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.common.extensions.extension_manifest import (
    MANIFEST_NAME,
    BakedExtension,
    read_extensions,
)
from scripts.common.extensions.installed_packages import find_unsatisfied, installed_packages
from scripts.common.extensions.locked_requests import ExtensionRequests, read_locked_requests
from scripts.common.extensions.pip_requests import (
    REQUIREMENTS,
    PipRequest,
    read_recorded_calls,
    read_requirement_list,
)
from scripts.common.extensions.run_installer import (
    INSTALLER,
    installer_environment,
    run_installer,
)
from scripts.common.fetch.hashing import layer_time, sha256_of
from scripts.common.models.kinds import IMAGE_TREE

TIMEOUT = 600.0  # seconds; the slowest one known imports torch and diffusers
SHOWN_LINES = 20


def problems(
    requests: Sequence[PipRequest], packages: Sequence[Path], overrides: Sequence[str]
) -> list[str]:
    """Describe each request that the installed packages do not satisfy, in one line."""
    path = [*sys.path, *map(str, packages)]
    unsatisfied = find_unsatisfied(requests, installed_packages(path), overrides)
    return [f"{each} - run: invoke pin --python" for each in unsatisfied]


def install(
    extension: BakedExtension, folder: Path, webui: Path, data: Path, packages: Sequence[Path]
) -> tuple[tuple[PipRequest, ...], list[str]]:
    """Run the installer of an extension; return its requests, and a problem if it failed."""
    if extension.install == "none" or not (folder / INSTALLER).is_file():
        return (), []
    environment = {
        **installer_environment(webui, data, packages),
        "HOME": str(data),
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
    }
    done = run_installer(folder, webui, environment, answer="run", timeout=TIMEOUT)
    asked = read_recorded_calls(done.calls)
    print(f"{extension.name}: {INSTALLER} ended with {done.status}, {len(asked)} requests to pip")
    if done.status == 0:
        return asked, []
    for line in done.lines[-SHOWN_LINES:]:
        print(f"    {line}")
    end = "did not end in time" if done.status is None else f"failed: {done.last_line}"
    return asked, [f"{INSTALLER} {end} - `install: none` leaves it out"]


@contextmanager
def linked_files(tree: Path, folder: Path) -> Iterator[None]:
    """Link the files of a tree at the same paths of a folder, until the block ends."""
    made: list[Path] = []
    for path in sorted(tree.rglob("*")):
        link = folder / path.relative_to(tree)
        if path.is_dir() and not link.exists():
            link.mkdir()
            made.append(link)
        elif path.is_file() and not link.exists():
            link.symlink_to(path)
            made.append(link)
    yield
    for path in reversed(made):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def settle(folder: Path) -> None:
    """Give what installers wrote the modes and times of all layers, which only content decides."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink():
                os.utime(path, (0, 0), follow_symlinks=False)
            elif path.is_file():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
                os.utime(path, (layer_time(sha256_of(path)),) * 2)
        Path(parent).chmod(0o755)
        os.utime(parent, (0, 0))


def main(extensions: Path, webui: Path, lock: Path, models: Path, packages: list[Path]) -> int:
    """Install and compare all extensions; print every problem, and return the exit code."""
    locked = {each.name: each for each in read_locked_requests(lock.read_text(encoding="utf-8"))}
    overrides = [override for each in locked.values() for override in each.overrides]
    found: list[str] = []
    with TemporaryDirectory(prefix="data-") as scratch:
        data, baked = Path(scratch), models / "extra"
        inside, shared = baked / str(extensions)[1:], baked / str(IMAGE_TREE)[1:]
        with linked_files(inside, extensions), linked_files(shared, data):
            for extension in read_extensions(extensions / MANIFEST_NAME):
                folder = extensions / extension.name
                asked, failed = install(extension, folder, webui, data, packages)
                expected = (*expected_requests(folder, locked.get(extension.name)), *asked)
                failed += problems(expected, packages, overrides)
                found += [f"extension {extension.name}: {line}" for line in failed]
    settle(extensions)
    # On the stream of what is above: an engine does not keep the order of two, and a failed build
    # shows the end.
    for line in dict.fromkeys(found):
        print(f"install-extensions: {line}")
    return 1 if found else 0


def expected_requests(folder: Path, locked: ExtensionRequests | None) -> tuple[PipRequest, ...]:
    """Return the requests that the lock names for an extension; else those of its own list."""
    if locked:
        return locked.requests
    listed = folder / REQUIREMENTS
    if not listed.is_file():
        return ()
    return read_requirement_list(listed.read_text(encoding="utf-8", errors="replace"), REQUIREMENTS)


if __name__ == "__main__":
    extensions, webui, lock, models, *packages = map(Path, sys.argv[1:])
    sys.exit(main(extensions, webui, lock, models, packages))

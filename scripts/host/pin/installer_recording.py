"""Record what an extension's installer asks of pip, in a throw-away container of the base image.

An installer is a stranger's program. The container has no network, no rights, no folder of this
machine and limits; the installer is run there by nobody, on copies that go away with it.
"""

import io
import json
import stat
import tarfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Final

import docker
from docker.types import Ulimit

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions import run_installer
from scripts.common.extensions.run_installer import INSTALLER, RECORDER, InstallerRun
from scripts.host.console import note
from scripts.host.engine.client import docker_errors
from scripts.host.engine.containers import container_output
from scripts.host.extensions.git_tree import TreeFile

_NOBODY: Final = 65534  # of Debian, Alpine and Red Hat alike
_ROOM: Final = PurePosixPath("/tmp/recording")  # noqa: S108 - in the container; any user may enter it
_WEBUI: Final = _ROOM / "webui"
_DATA: Final = _ROOM / "data"
_PACKAGES: Final = _ROOM / "packages"
_HOME: Final = _ROOM / "home"
_TIMEOUT: Final = 180.0  # seconds; the recording ends itself after 120
_LIMITS: Final[dict[str, Any]] = {
    "user": f"{_NOBODY}:{_NOBODY}",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "4g",
    "memswap_limit": "4g",
    "nano_cpus": 2_000_000_000,
    "pids_limit": 256,
    "ulimits": [Ulimit(name="fsize", soft=1 << 30, hard=1 << 30)],
}


def get_base(client: docker.DockerClient, reference: str) -> str:
    """Return the ID of a base image; download it if the engine does not have it.

    Raises:
        UserError: there is no such image, or the registry cannot be reached.
    """
    with docker_errors(reference, hint="check base.runtime and mirrors.registry"):
        try:
            return str(client.images.get(reference).id)
        except docker.errors.ImageNotFound:
            note(f"downloading {reference}, in which installers of extensions are run")
            return str(client.images.pull(reference).id)


def record_installer(
    client: docker.DockerClient,
    image: str,
    name: str,
    webui: Iterable[TreeFile],
    extension: Iterable[TreeFile],
    models: Iterable[PurePosixPath] = (),
) -> InstallerRun:
    """Run an extension's installer in a container, with a pip that only records.

    The installer may write into the copies of the WebUI and of the extension: a shell makes a file
    of an unquoted `>=1.0` in the WebUI's folder, and fails where it cannot.

    Args:
        client: the engine.
        image: the base image, which has Python and torch.
        name: folder of the extension.
        webui: files of the WebUI.
        extension: files of the extension.
        models: paths in the WebUI's data folder of model files that the image will have. They are
            empty: ReActor's installer would download one, which fails here, before it calls pip.

    Raises:
        UserError: the container cannot be run.
    """
    folder = _DATA / "extensions" / name
    placeholders = (TreeFile(str(path), b"") for path in models)
    trees = [(_WEBUI, webui), (_DATA, placeholders), (folder, extension), (_ROOM, _own_files())]
    command = ["python", str(_ROOM / "run_installer.py"), str(folder), str(_WEBUI), str(_DATA)]
    with docker_errors(name, message="the installer cannot be recorded"):
        printed = container_output(
            client,
            image,
            [*command, str(_PACKAGES)],
            files=_as_tar(trees),
            timeout=_TIMEOUT,
            environment={"HOME": str(_HOME), "HF_HUB_OFFLINE": "1"},
            **_LIMITS,
        )
    try:
        return InstallerRun(**json.loads(printed))
    except (ValueError, TypeError):
        raise UserError(
            "the installer's recording cannot be read",
            location=name,
            hint="set `install: none`, and list its packages under `requirements`",
        ) from None


def _own_files() -> Iterator[TreeFile]:
    """Yield the recorder, and packages of the WebUI that installers import, from this machine.

    Half of them import `packaging`, ReActor's also `tqdm`, which `huggingface_hub` requires.
    """
    script = Path(run_installer.__file__)
    yield TreeFile(script.name, script.read_bytes())
    for path in sorted(RECORDER.rglob("*.py")):
        yield TreeFile(str(path.relative_to(RECORDER.parent)), path.read_bytes())
    for name in ("packaging", "tqdm"):
        library = Path(import_module(name).__file__ or "").parent
        for path in sorted(library.rglob("*.py")):
            inside = path.relative_to(library).as_posix()
            inner = PurePosixPath(_PACKAGES.name, library.name, inside)
            yield TreeFile(str(inner), path.read_bytes())
    yield TreeFile(f"{_HOME.name}/.keep", b"")
    yield TreeFile(f"{_DATA.name}/.keep", b"")


def _as_tar(trees: Iterable[tuple[PurePosixPath, Iterable[TreeFile]]]) -> bytes:
    """Pack files below folders of the container; everything belongs to nobody."""
    packed = io.BytesIO()
    folders: set[PurePosixPath] = set()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for top, files in trees:
            for file in files:
                path = top / file.path
                above = [each for each in reversed(path.parents) if _ROOM in (each, *each.parents)]
                for each in above:
                    if each not in folders:
                        folders.add(each)
                        tar.addfile(_entry(each, tarfile.DIRTYPE, 0o755))
                kind = tarfile.SYMTYPE if file.is_link else tarfile.REGTYPE
                entry = _entry(path, kind, 0o755 if file.is_program else 0o644)
                if file.is_link:
                    entry.linkname = file.content.decode("utf-8", "surrogateescape")
                    tar.addfile(entry)
                else:
                    entry.size = len(file.content)
                    tar.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def _entry(path: PurePosixPath, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(path).lstrip("/"))
    entry.type, entry.mode = kind, stat.S_IMODE(mode)
    entry.uid = entry.gid = _NOBODY
    return entry


def has_installer(extension: Iterable[TreeFile]) -> bool:
    """Return whether an extension has an `install.py`."""
    return any(file.path == INSTALLER and not file.is_link for file in extension)

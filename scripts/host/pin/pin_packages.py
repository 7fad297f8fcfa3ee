"""Compile the hashed locks of Python packages: the image's, per variant, and the host's own.

uv resolves. Everything is compiled in a scratch copy of `requirements/` and copied back together,
so a failed run changes no lock.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.files import write_atomically
from scripts.common.run import run_program
from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import ResolvedSource, lock_write_error, resolve_source
from scripts.host.console import note
from scripts.host.git_sources import GitHosts
from scripts.host.pin.extension_packages import describe_extensions, explain_conflict, write_inputs
from scripts.host.pin.extension_requests import RequestCollector

FOLDER = "requirements"
WEBUI_LIST = "requirements_versions.txt"
BASE_PACKAGES = f"{FOLDER}/base.in"

_FOR_IMAGE = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_28")
_FOR_HOST = ("--python-version=3.10", "--universal")
_PACKAGE_KEYS = {"name", "repo", "commit", "requirements", "install", "overrides"}
_GROUPS = ("--group=host", "--group=test", "--group=lint", "--group=bench")  # of pyproject.toml


@dataclass(frozen=True)
class PackageLock:
    """A lock and what it is compiled from; paths are relative to the checkout.

    Args:
        path: the lock.
        inputs: lists of requirements; none where groups of pyproject.toml are options.
        options: of uv, such as the Python version.
        loaded: config that says where packages and git repositories are found.
        webui: for a lock of the image, the WebUI, whose own list is one of the inputs.
        extensions: what the config says of each extension's packages.
    """

    path: str
    inputs: tuple[str, ...]
    options: tuple[str, ...]
    loaded: LoadedConfig = field(compare=False)
    webui: ResolvedSource | None = None
    extensions: tuple[str, ...] = ()


def pin_packages(
    variants: Sequence[LoadedConfig], *, check: bool = False, upgrade: bool = False
) -> tuple[str, ...]:
    """Compile the locks of some variants and the common ones.

    Args:
        variants: the config of each; at least one.
        check: write nothing.
        upgrade: take the newest versions instead of keeping the locked ones.

    Returns:
        The locks that changed, or with `check` would, relative to the checkout.

    Raises:
        UserError: the WebUI's list cannot be fetched, or packages exclude each other.
    """
    root = variants[0].root
    locks = plan_locks(variants)
    with tempfile.TemporaryDirectory(prefix="pin-") as folder:
        scratch = Path(folder)
        shutil.copytree(root / FOLDER, scratch / FOLDER)
        shutil.copy(root / "pyproject.toml", scratch)
        collector = RequestCollector(scratch)
        for lock in locks:
            note(f"compiling {lock.path}")
            _copy_present(root / lock.path, scratch / lock.path)
            _compile(scratch, lock, collector, upgrade=upgrade)
        texts = {lock.path: (scratch / lock.path).read_bytes() for lock in locks}
    changed = {path: text for path, text in texts.items() if _read(root / path) != text}
    if not check:
        for path, text in changed.items():
            _write(root / path, text)
    return tuple(changed)


def plan_locks(variants: Sequence[LoadedConfig]) -> tuple[PackageLock, ...]:
    """Return each lock of some variants once, the common ones first.

    Raises:
        UserError: variants with different packages share a lock.
    """
    first = variants[0]
    common = [
        PackageLock(f"{FOLDER}/dev.txt", (), (*_FOR_HOST, *_GROUPS), first),
        *(
            PackageLock(f"{FOLDER}/{name}.txt", (f"{FOLDER}/{name}.in",), _FOR_IMAGE, first)
            for name in ("runpod", "tools")
        ),
    ]
    locks = tuple(dict.fromkeys([*common, *map(_image_lock, variants)]))
    paths = [lock.path for lock in locks]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(
                "variants with different packages share a lock",
                location=path,
                hint="give each its own build.requirements",
            )
    return locks


def _image_lock(loaded: LoadedConfig) -> PackageLock:
    """Return the lock of a variant's packages: the WebUI's list at its release, and additions."""
    config = loaded.config
    webui = resolve_source(
        "webui", config.a1111.sources["webui"], config.a1111.release, loaded.lock
    )
    cuda = [f"{FOLDER}/image-cuda.in"] if config.build.accelerator == "cuda" else []
    return PackageLock(
        path=config.build.requirements,
        inputs=(f"{webui.ref}/{WEBUI_LIST}", f"{FOLDER}/image.in", *cuda),
        options=(*_FOR_IMAGE, f"--constraints={BASE_PACKAGES}"),
        loaded=loaded,
        webui=webui,
        extensions=tuple(each.model_dump_json(include=_PACKAGE_KEYS) for each in config.extensions),
    )


def _copy_present(present: Path, scratch: Path) -> None:
    """Copy a lock that is not in the folder of inputs, so that uv keeps its versions."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    if present.exists() and not scratch.exists():
        shutil.copyfile(present, scratch)


def _compile(
    scratch: Path, lock: PackageLock, collector: RequestCollector, *, upgrade: bool
) -> None:
    """Compile a lock; versions of a lock that is there are kept.

    The image's packages are resolved beside those of the base image, so that they fit them, and
    then again without them, so that neither they nor what only they require is installed.
    """
    if not lock.webui:
        _run_uv(scratch, lock, *_upgrade(upgrade))
        return
    webui_list = _save_webui_list(scratch, lock.loaded, lock.webui)
    extensions = collector.collect(lock.loaded)
    github = lock.loaded.config.mirrors.github
    inputs = write_inputs(scratch, extensions, github)
    try:
        _run_uv(scratch, lock, *_upgrade(upgrade), *inputs)
    except UserError as error:
        of_image = [(scratch / path).read_text(encoding="utf-8") for path in lock.inputs[1:]]
        lists = {"the WebUI": webui_list, "the image": "".join(of_image)}
        raise explain_conflict(error.message, extensions, lists, lock.path) or error from None
    _run_uv(scratch, lock, f"--excludes={BASE_PACKAGES}", *inputs)
    path = scratch / lock.path
    text = describe_extensions(path.read_text(encoding="utf-8"), extensions, github)
    path.write_text(text, encoding="utf-8")


def _upgrade(upgrade: bool) -> list[str]:
    return ["--upgrade"] if upgrade else []


def _save_webui_list(scratch: Path, loaded: LoadedConfig, webui: ResolvedSource) -> str:
    """Write the WebUI's list into the scratch folder, where uv names it in the lock's comments.

    Two variants may build different commits of one release: the later list replaces the first.

    Raises:
        UserError: the repository cannot be reached, or has no such commit or file.
    """
    hosts = GitHosts(loaded.config.mirrors.github, loaded.ca_bundle)
    commit = webui.commit or hosts.find_commit(webui.repo, webui.ref)
    path = scratch / webui.ref / WEBUI_LIST
    path.parent.mkdir(exist_ok=True)
    text = hosts.read_file(webui.repo, commit, WEBUI_LIST, scratch)
    path.write_text(text, encoding="utf-8")
    return text


def _run_uv(scratch: Path, lock: PackageLock, *options: str) -> None:
    mirrors = lock.loaded.config.mirrors
    variables = {"UV_PYTHON_DOWNLOADS": "never"}  # metadata of another Python needs no Python
    if mirrors.python:
        variables["UV_DEFAULT_INDEX"] = mirrors.python
    if mirrors.pytorch:
        # It also has old copies of common packages, so both indexes are asked for each.
        variables |= {"UV_INDEX": mirrors.pytorch, "UV_INDEX_STRATEGY": "unsafe-best-match"}
    with certificate_context(lock.loaded.ca_bundle) as certificates:
        if certificates:
            variables["SSL_CERT_FILE"] = str(certificates / FILE)
        done = run_program(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes"),
                "--custom-compile-command=invoke pin --python",
                *(*lock.options, *options, f"--output-file={lock.path}", *lock.inputs),
            ],
            cwd=scratch,
            env=variables,
        )
    if done.returncode != 0:
        raise UserError(
            f"the packages cannot be locked: {' '.join(done.stderr.split())[:600]}",
            location=lock.path,
            hint="check mirrors.python, and requirements/*.in for packages that exclude each other",
        )


def _write(path: Path, text: bytes) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise lock_write_error(error, str(path)) from None


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None

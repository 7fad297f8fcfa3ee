"""Compile the hashed locks of Python packages: the image's, per variant, and the host's own.

uv resolves. Everything is compiled in a scratch copy of `requirements/` and copied back together,
so a failed run changes no lock.
"""

from __future__ import annotations

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
from scripts.host.config.lock import lock_write_error, resolve_source
from scripts.host.console import note
from scripts.host.pin.git_sources import GitHosts

FOLDER = "requirements"
WEBUI_LIST = "requirements_versions.txt"
BASE_PACKAGES = f"{FOLDER}/base.in"

_FOR_IMAGE = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_28")
_FOR_HOST = ("--python-version=3.10", "--universal")
_GROUPS = ("--group=host", "--group=test", "--group=lint", "--group=bench")  # of pyproject.toml


@dataclass(frozen=True)
class PackageIndexes:
    """Where uv finds packages, and whom it trusts there.

    Args:
        default: `mirrors.python`; None for the index that uv is configured for.
        pytorch: `mirrors.pytorch`; None for no second index.
        ca_bundle: certificates to trust besides the public ones; None for uv's own.
    """

    default: str | None
    pytorch: str | None
    ca_bundle: Path | None

    @classmethod
    def of(cls, loaded: LoadedConfig) -> PackageIndexes:
        """Return those of a config."""
        mirrors = loaded.config.mirrors
        return cls(mirrors.python, mirrors.pytorch, loaded.ca_bundle)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that configure uv."""
        variables = {"UV_PYTHON_DOWNLOADS": "never"}  # metadata of another Python needs no Python
        if self.default:
            variables["UV_DEFAULT_INDEX"] = self.default
        if self.pytorch:
            # It also has old copies of common packages, so both indexes are asked for each.
            variables |= {"UV_INDEX": self.pytorch, "UV_INDEX_STRATEGY": "unsafe-best-match"}
        return variables


@dataclass(frozen=True)
class WebuiList:
    """The WebUI's list of requirements at one commit.

    Args:
        path: where uv finds it in the scratch folder, and names it in the lock's comments.
        repo: the WebUI's repository.
        ref: tag of the release.
        commit: empty to take the tag's.
        hosts: where the repository is.
    """

    path: str
    repo: str
    ref: str
    commit: str
    hosts: GitHosts = field(compare=False)

    def save(self, scratch: Path) -> None:
        """Write the list into the scratch folder.

        Two variants may build different commits of one release: the later list replaces the first.

        Raises:
            UserError: the repository cannot be reached, or has no such commit or file.
        """
        commit = self.commit or self.hosts.find_commit(self.repo, self.ref)
        text = self.hosts.read_file(self.repo, commit, WEBUI_LIST, scratch)
        (scratch / self.path).parent.mkdir(exist_ok=True)
        (scratch / self.path).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class PackageLock:
    """A lock and what it is compiled from; paths are relative to the checkout.

    Args:
        path: the lock.
        inputs: lists of requirements; none where groups of pyproject.toml are options.
        options: of uv, such as the Python version.
        indexes: where packages are found.
        webui: the WebUI's list, for a lock of the image; None for the others.
    """

    path: str
    inputs: tuple[str, ...]
    options: tuple[str, ...]
    indexes: PackageIndexes = field(compare=False)
    webui: WebuiList | None = None


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
        for lock in locks:
            note(f"compiling {lock.path}")
            _copy_present(root / lock.path, scratch / lock.path)
            _compile(scratch, lock, upgrade=upgrade)
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
    indexes = PackageIndexes.of(variants[0])
    common = [
        PackageLock(f"{FOLDER}/dev.txt", (), (*_FOR_HOST, *_GROUPS), indexes),
        *(
            PackageLock(f"{FOLDER}/{name}.txt", (f"{FOLDER}/{name}.in",), _FOR_IMAGE, indexes)
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
    source = resolve_source(
        "webui", config.a1111.sources["webui"], config.a1111.release, loaded.lock
    )
    webui = WebuiList(
        path=f"{source.ref}/{WEBUI_LIST}",
        repo=source.repo,
        ref=source.ref,
        commit=source.commit,
        hosts=GitHosts(config.mirrors.github, loaded.ca_bundle),
    )
    cuda = [f"{FOLDER}/image-cuda.in"] if config.build.accelerator == "cuda" else []
    return PackageLock(
        path=config.build.requirements,
        inputs=(webui.path, f"{FOLDER}/image.in", *cuda),
        options=(*_FOR_IMAGE, f"--constraints={BASE_PACKAGES}"),
        indexes=PackageIndexes.of(loaded),
        webui=webui,
    )


def _copy_present(present: Path, scratch: Path) -> None:
    """Copy a lock that is not in the folder of inputs, so that uv keeps its versions."""
    scratch.parent.mkdir(parents=True, exist_ok=True)
    if present.exists() and not scratch.exists():
        shutil.copyfile(present, scratch)


def _compile(scratch: Path, lock: PackageLock, *, upgrade: bool) -> None:
    """Compile a lock; versions of a lock that is there are kept.

    The image's packages are resolved beside those of the base image, so that they fit them, and
    then again without them, so that neither they nor what only they require is installed.
    """
    if lock.webui:
        lock.webui.save(scratch)
    _run_uv(scratch, lock, *(["--upgrade"] if upgrade else []))
    if lock.webui:
        _run_uv(scratch, lock, f"--excludes={BASE_PACKAGES}")


def _run_uv(scratch: Path, lock: PackageLock, *options: str) -> None:
    with certificate_context(lock.indexes.ca_bundle) as certificates:
        trust = {"SSL_CERT_FILE": str(certificates / FILE)} if certificates else {}
        done = run_program(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes"),
                "--custom-compile-command=invoke pin --python",
                *(*lock.options, *options, f"--output-file={lock.path}", *lock.inputs),
            ],
            cwd=scratch,
            env={**lock.indexes.environment, **trust},
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

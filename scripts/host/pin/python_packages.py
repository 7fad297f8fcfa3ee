"""Compiles the hashed locks of Python packages: the image's, per variant, and the host's own.

uv resolves; this says what it is asked. Everything is compiled in a scratch copy of
`requirements/` and moved into place together, so a failed run leaves nothing half new.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve_source
from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import lock_write_error, removed_on_error
from scripts.host.console import note
from scripts.host.pin.git_sources import commit_of, file_at

FOLDER = "requirements"
WEBUI_LIST = "requirements_versions.txt"

# What the base image brings: resolved against, never locked, so never installed. torch and the
# CUDA libraries it loads belong together, and are the base image's.
_FROM_BASE = re.compile(r"torch|torchvision|torchaudio|triton|nvidia-[a-z0-9-]+")
_ENTRY = re.compile(r"^([a-z0-9._-]+)==.*\n(?: .*\n)*", flags=re.MULTILINE)
_WANTED_BY = re.compile(r"^ +#(?: via|  ) (\S.*)$", flags=re.MULTILINE)
_FOR_IMAGE = ("--python-version=3.11", "--python-platform=x86_64-manylinux_2_28")
_FOR_HOST = ("--python-version=3.10", "--universal")


@dataclass(frozen=True)
class Compilation:
    """One lock and what it is made from; paths are relative to the checkout.

    Args:
        output: the lock.
        inputs: lists of requirements.
        options: uv's, such as the Python version.
        webui: repository and commit of the WebUI whose list is an input; None where it is none.
    """

    output: str
    inputs: tuple[str, ...]
    options: tuple[str, ...]
    webui: tuple[str, str] | None = None


COMMON = (
    Compilation(f"{FOLDER}/dev.txt", (f"{FOLDER}/dev.in",), _FOR_HOST),
    Compilation(f"{FOLDER}/runpod.txt", (f"{FOLDER}/runpod.in",), _FOR_IMAGE),
    Compilation(f"{FOLDER}/tools.txt", (f"{FOLDER}/tools.in",), _FOR_IMAGE),
)
"""The locks that are the same for all variants."""


def compilation(loaded: LoadedConfig) -> Compilation:
    """The lock of a variant's packages: the WebUI's list at its release, and our additions."""
    a1111 = loaded.config.a1111
    webui = resolve_source("webui", a1111.sources["webui"], a1111.release, loaded.lock)
    cuda = [f"{FOLDER}/image-cuda.in"] if loaded.config.build.accelerator == "cuda" else []
    return Compilation(
        output=loaded.config.build.requirements,
        inputs=(_webui_list(loaded), f"{FOLDER}/image.in", *cuda),
        options=(*_FOR_IMAGE, f"--constraints={FOLDER}/base.in"),
        webui=(webui.repo, webui.commit),
    )


def pin_python(
    variants: Sequence[LoadedConfig], *, check: bool = False, upgrade: bool = False
) -> tuple[str, ...]:
    """Compile the locks of some variants and the common ones.

    Args:
        variants: the config of each; at least one.
        check: write nothing.
        upgrade: take the newest versions instead of keeping those that are locked.

    Returns:
        The locks that changed, or with `check` would, relative to the checkout.

    Raises:
        UserError: the WebUI's list cannot be had, or packages exclude each other.
    """
    root = variants[0].root
    plan = _plan(variants)
    with tempfile.TemporaryDirectory(prefix="pin-") as folder:
        scratch = Path(folder)
        shutil.copytree(root / FOLDER, scratch / FOLDER)
        for lock, loaded in plan.items():
            note(f"compiling {lock.output}")
            if lock.webui:
                _save_webui_list(scratch, loaded, *lock.webui)
            _prepare(scratch / lock.output, root / lock.output)
            _compile(scratch, lock, loaded, upgrade=upgrade)
        changed = tuple(
            lock.output for lock in plan if _differs(scratch / lock.output, root / lock.output)
        )
        if not check:
            for name in changed:
                _replace(scratch / name, root / name)
    return changed


def without_base(lock: str) -> str:
    """A hashed lock without what the base image brings, hashes and remarks included.

    That is torch and its like, and what nobody but they want (sympy): they cannot be there without.
    """
    wanted_by = {entry[1]: set(_WANTED_BY.findall(entry[0])) for entry in _ENTRY.finditer(lock)}
    names = {name for wanting in wanted_by.values() for name in wanting} | wanted_by.keys()
    gone = {name for name in names if _FROM_BASE.fullmatch(name)}
    while more := {n for n, wanting in wanted_by.items() if wanting and wanting <= gone} - gone:
        gone |= more
    return _ENTRY.sub(lambda entry: "" if entry[1] in gone else entry[0], lock)


def _plan(variants: Sequence[LoadedConfig]) -> dict[Compilation, LoadedConfig]:
    """Each lock once, with a config whose mirrors reach what it needs."""
    plan = dict.fromkeys(COMMON, variants[0])
    for loaded in variants:
        plan.setdefault(compilation(loaded), loaded)
    outputs = [lock.output for lock in plan]
    for name in outputs:
        if outputs.count(name) > 1:
            raise UserError(
                "variants with different packages name the same lock",
                location=name,
                hint="give each its own build.requirements",
            )
    return plan


def _webui_list(loaded: LoadedConfig) -> str:
    """Where the WebUI's list lies in the scratch folder; uv's remarks quote it."""
    return f"{loaded.config.a1111.release}/{WEBUI_LIST}"


def _save_webui_list(scratch: Path, loaded: LoadedConfig, repo: str, commit: str) -> None:
    """Two variants may build different commits by the name of one release: each list is its own."""
    path = scratch / _webui_list(loaded)
    path.parent.mkdir(exist_ok=True)
    commit = commit or commit_of(loaded, repo, loaded.config.a1111.release)
    path.write_text(file_at(loaded, repo, commit, WEBUI_LIST, scratch), encoding="utf-8")


def _prepare(output: Path, present: Path) -> None:
    """A lock may lie beside the folder of inputs: its place, and the versions that it holds."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if present.exists() and not output.exists():
        shutil.copyfile(present, output)


def _compile(scratch: Path, lock: Compilation, loaded: LoadedConfig, *, upgrade: bool) -> None:
    """Run uv; the present lock lies at the output, and uv keeps its versions."""
    with certificate_context(loaded.ca_bundle) as certificates:
        answer = subprocess.run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes"),
                "--custom-compile-command=invoke pin --python",
                *lock.options,
                *(["--upgrade"] if upgrade else []),
                f"--output-file={lock.output}",
                *lock.inputs,
            ],
            cwd=scratch,
            env=os.environ | _environment(loaded, certificates),
            capture_output=True,
            text=True,
            check=False,
        )
    if answer.returncode != 0:
        raise UserError(
            f"the packages cannot be locked: {' '.join(answer.stderr.split())[:600]}",
            location=lock.output,
            hint="check mirrors.python, and requirements/*.in for packages that exclude each other",
        )
    if lock not in COMMON:
        output = scratch / lock.output
        output.write_text(without_base(output.read_text(encoding="utf-8")), encoding="utf-8")


def _environment(loaded: LoadedConfig, certificates: Path | None) -> dict[str, str]:
    """Shows uv the mirrors and the certificates."""
    mirrors = loaded.config.mirrors
    words = {"UV_PYTHON_DOWNLOADS": "never"}  # metadata of another Python needs no such Python
    if mirrors.python:
        words["UV_DEFAULT_INDEX"] = mirrors.python
    if mirrors.pytorch:
        # It also carries old copies of common packages, so both indexes must be asked for all.
        words |= {"UV_INDEX": mirrors.pytorch, "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if certificates:
        words["SSL_CERT_FILE"] = str(certificates / FILE)
    return words


def _differs(new: Path, old: Path) -> bool:
    return not old.exists() or new.read_bytes() != old.read_bytes()


def _replace(new: Path, old: Path) -> None:
    """Move a file in one step, from another file system too."""
    partial = old.with_name(f"{old.name}.partial")
    try:
        with removed_on_error(partial):
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, partial)
            partial.replace(old)
    except OSError as error:
        raise lock_write_error(error, str(old)) from None

"""Collect the Python packages that the configured extensions need, for the lock of a variant."""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.extension_manifest import EXTENSIONS
from scripts.common.extensions.installed_packages import is_left_out
from scripts.common.extensions.locked_requests import ExtensionRequests
from scripts.common.extensions.pip_requests import (
    CONFIG,
    REQUIREMENTS,
    PipRequest,
    read_recorded_calls,
    read_requirement_list,
    to_requirement,
)
from scripts.common.extensions.run_installer import INSTALLER, InstallerRun
from scripts.common.models.kinds import IMAGE_TREE
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import (
    ResolvedExtension,
    resolve_base,
    resolve_extension,
    resolve_source,
)
from scripts.host.config.schema import Config
from scripts.host.console import note, warn
from scripts.host.extensions.fetch_extensions import public_url
from scripts.host.extensions.git_tree import RepositoryReader, TreeFile
from scripts.host.git_sources import GitHosts, source_url
from scripts.host.pin.installer_recording import get_base, has_installer, record_installer

PROJECT = "pyproject.toml"
# The standard library has it from Python 3.11 on.
_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


@dataclass
class RequestCollector:
    """Collects the requests of extensions; of those in several variants once.

    Args:
        scratch: folder for git.
    """

    scratch: Path
    _files: dict[tuple[str, str], tuple[TreeFile, ...]] = field(default_factory=dict)
    _recorded: dict[tuple[object, ...], tuple[PipRequest, ...]] = field(default_factory=dict)

    def collect(self, loaded: LoadedConfig) -> tuple[ExtensionRequests, ...]:
        """Return what each extension of a variant needs, in the config's order.

        Raises:
            UserError: a repository cannot be fetched, an extension asks for something that no lock
                can have, or no engine answers that could run its installer.
        """
        found = tuple(
            self._collect(loaded, resolve_extension(each, loaded.lock))
            for each in loaded.config.extensions
        )
        overrides = [override for each in found for override in each.overrides]
        for each in found:
            _check_requests(each, overrides)
        return found

    def _collect(self, loaded: LoadedConfig, resolved: ResolvedExtension) -> ExtensionRequests:
        extension, hosts = resolved.extension, _hosts(loaded)
        commit = resolved.commit or hosts.find_branch(resolved.repo, extension.ref)
        files = self._read(hosts, resolved.repo, commit)
        asked = [
            *(PipRequest(to_requirement(text), CONFIG) for text in extension.requirements),
            *read_listed_requests(files),
        ]
        if extension.install == "auto" and has_installer(files):
            asked += self._record(loaded, resolved.name, commit, files)
        requests = tuple(dict.fromkeys(asked))
        return ExtensionRequests(
            resolved.name, commit, requests, extension.overrides, extension.install
        )

    def _read(self, hosts: GitHosts, repo: str, commit: str) -> tuple[TreeFile, ...]:
        key = (repo, commit)
        if key not in self._files:
            git = hosts.fetch(source_url(hosts.github, repo), commit, self.scratch)
            reader = RepositoryReader(hosts, self.scratch)
            self._files[key] = tuple(reader.read_files(git, public_url(repo), commit))
        return self._files[key]

    def _record(
        self, loaded: LoadedConfig, name: str, commit: str, files: Sequence[TreeFile]
    ) -> tuple[PipRequest, ...]:
        """Run the installer in a container of the variant's base image."""
        from scripts.host.engine.client import client

        config = loaded.config
        release, mirrors = config.a1111.release, config.mirrors
        webui = resolve_source("webui", config.a1111.sources["webui"], release, loaded.lock)
        base = resolve_base(config.base.runtime, loaded.lock, mirrors.registry).reference
        webui_commit = webui.commit or _hosts(loaded).find_commit(webui.repo, webui.ref)
        models = tuple(list_model_files(config))
        key = (name, commit, webui_commit, base, models)
        if key not in self._recorded:
            sources = self._read(_hosts(loaded), webui.repo, webui_commit)
            try:
                engine = client()
            except UserError as error:
                raise UserError(
                    f"the installer of {name} is run in a container, and {error.message}",
                    location=error.location,
                    hint="start a Docker engine; or set `install: none`, and list the packages"
                    " under `requirements`",
                    code=error.code,
                ) from None
            note(f"recording what the installer of {name} asks of pip")
            try:
                image = get_base(engine, base)
                done = record_installer(engine, image, name, sources, files, models)
            finally:
                engine.close()
            _warn_of_end(name, done)
            self._recorded[key] = read_recorded_calls(done.calls)
        return self._recorded[key]


def list_model_files(config: Config) -> Iterator[PurePosixPath]:
    """Yield the model files of the image that installers look for, in the WebUI's data folder."""
    for model in config.all_models:
        for path in map(PurePosixPath, model.filled_paths if model.placement == "image" else ()):
            if path.is_relative_to(IMAGE_TREE):
                yield path.relative_to(IMAGE_TREE)
            elif path.is_relative_to(EXTENSIONS):
                yield path.relative_to(EXTENSIONS.parent)


def read_listed_requests(files: Sequence[TreeFile]) -> tuple[PipRequest, ...]:
    """Return the requests of an extension's own lists: requirements.txt and pyproject.toml."""
    texts = {
        file.path: file.content.decode("utf-8", "replace")
        for file in files
        if file.path.endswith((".txt", PROJECT)) and not file.is_link
    }
    listed = read_requirement_list(texts.get(REQUIREMENTS, ""), REQUIREMENTS, texts)
    project = _read_project(texts.get(PROJECT, ""))
    return (*listed, *(PipRequest(to_requirement(each), PROJECT) for each in project))


def _read_project(text: str) -> list[str]:
    """Return `[project].dependencies` (PEP 621); nothing where they are absent or broken."""
    try:
        project: Any = _toml.loads(text).get("project", {})
    except ValueError:
        return []
    listed = project.get("dependencies", []) if isinstance(project, Mapping) else []
    return [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


def _check_requests(extension: ExtensionRequests, overrides: Sequence[str]) -> None:
    """Check that a lock with checksums can have what an extension asks for.

    Of an extension's addresses only wheels are taken: uv runs the program of a source archive to
    read what it requires. Archives of the package index are run so, as for every lock.

    Raises:
        UserError: it asks for a folder, a git repository or a source archive at an address.
    """
    for request in extension.requests:
        asked = f"{request.source} of {extension.name} asks pip for {request.text}"
        if not request.name:
            raise UserError(
                f"{asked}, which names no package",
                hint="set its `install: none`, and list its packages under `requirements`",
            )
        url = request.requirement.url if request.requirement else None
        accepted = r"https?://" if request.source == CONFIG else r"https?://[^?#]+\.whl($|[?#])"
        if url and not re.match(accepted, url) and not is_left_out(request.name, overrides):
            raise UserError(
                f"{asked}, which is no wheel",
                hint=f"leave it out by the override \"{request.name}; python_version < '0'\","
                " and give `name @ https://…` of an archive that you trust under `requirements`",
            )


def _hosts(loaded: LoadedConfig) -> GitHosts:
    return GitHosts(loaded.config.mirrors.github, loaded.ca_bundle)


def _warn_of_end(name: str, done: InstallerRun) -> None:
    """Warn where an installer ended early: what it would have asked for then is not known."""
    if done.status == 0:
        return
    end = "did not end in time" if done.status is None else f"ended with {done.status}"
    warn(
        f"{INSTALLER} of {name} {end}: {done.last_line[:200]} - if it needs more packages than its"
        " lists name, give them under `requirements`"
    )

"""Install what the extensions of volumes and of the data folder need; those of the image have it.

Each has packages of its own, in one environment each: what fails for one leaves the others as they
are, and a changed extension installs nothing anew for the others. All of them are on the WebUI's
path, after the image's packages, in the order of the extensions' names. So where two brought
different versions of one package, the first counts, and it is checked whether the second can do
with it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.models.folder_listing import describe_error
from scripts.container.log import log
from scripts.container.paths import list_packages_folders
from scripts.container.settings import Settings
from scripts.container.webui.extensions.find_extensions import Extension
from scripts.container.webui.extensions.installer import REQUESTS, Installer, needs_installer
from scripts.container.webui.extensions.package_store import PackageStore, Record

Progress = Callable[[str], None]
"""Called with what the start is waiting for."""

_DEVICES: Final = Path("/dev")


class Installations:
    """Packages of extensions: those that are there, and those that are missing.

    Args:
        settings: of the worker.
        env: environment that all processes share.
        deadline: active time at which installers are killed.
        on_progress: called with what is being done.
    """

    def __init__(
        self, settings: Settings, env: Mapping[str, str], deadline: float, on_progress: Progress
    ) -> None:
        self._settings, self._on_progress = settings, on_progress
        self._installer = Installer(settings, env, deadline)
        self._extensions: list[Extension] = []
        self._records: dict[str, Record] = {}
        self._environments: dict[str, Path] = {}
        self._broken: dict[str, str] = {}
        self._store: PackageStore | None = None
        self.additions: dict[str, Path] = {}
        self.packages: tuple[Path, ...] = ()

    def find(self, extensions: Iterable[Extension]) -> None:
        """Look for the packages of extensions, and for what installers added to their folders."""
        self._extensions = [each for each in extensions if needs_installer(each.path)]
        if not self._extensions:
            return
        try:
            image = self._installer.describe_image()
        except (UserError, OSError) as error:
            self._broken = dict.fromkeys((each.name for each in self._extensions), str(error))
            return
        device = "gpu" if any(_DEVICES.glob("nvidia[0-9]*")) else "cpu"
        folders = list_packages_folders(self._settings)
        self._store = store = PackageStore(folders, self._installer, image, device)
        for extension in self._extensions:
            try:
                environment = store.environment(extension)
            except OSError as error:
                self._broken[extension.name] = f"it cannot be read: {describe_error(error)}"
                continue
            self._environments[extension.name] = environment
            if record := store.read(environment):
                self._records[extension.name] = record
                if added := store.additions(environment):
                    self.additions[extension.name] = added

    def install_missing(self, without: Collection[str]) -> dict[str, str]:
        """Run the installers of extensions without packages, and choose the packages to use.

        Args:
            without: names of extensions that have no folder to install for.

        Returns:
            Why an extension cannot be used, by name.
        """
        for extension in self._extensions:
            if extension.name not in {*self._records, *self._broken, *without}:
                self._records[extension.name] = self._install(extension)
        chosen: list[str] = []
        for name in (each.name for each in self._extensions if each.name in self._records):
            reason = self._records[name].problem or self._find_displaced(name, chosen)
            if reason:
                self._broken[name] = reason
            else:
                chosen.append(name)
        self.packages = tuple(self._folder(name) for name in chosen)
        return self._broken

    def _install(self, extension: Extension) -> Record:
        assert self._store is not None  # noqa: S101 - only then an extension is missing packages
        name, started = extension.name, time.monotonic()
        self._on_progress(f"the packages of extension {name} are installed")
        log("extension-installing", extension=name)

        def wait() -> None:
            self._on_progress(f"another worker installs the packages of extension {name}")
            log("extension-waits", extension=name, reason="another worker is installing it")

        folder = self._settings.data_dir / "extensions" / name
        record, is_own = self._store.install(extension, folder, wait)
        if not record.problem:
            self._environments[name] = self._store.own_place(self._environments[name])
            seconds = time.monotonic() - started
            by = "this worker" if is_own else "another worker"
            packages = len(record.packages)
            log("extension-installed", extension=name, packages=packages, by=by, seconds=seconds)
        return record

    def _find_displaced(self, name: str, chosen: Collection[str]) -> str:
        """Return why an extension cannot do with packages that others brought; empty if it can."""
        own = self._records[name].packages
        differing = [
            f"{package} {version} of {other}, not {own[package]}"
            for other in chosen
            for package, version in self._records[other].packages.items()
            if own.get(package, version) != version
        ]
        if not differing:
            return ""
        folders = [str(self._folder(each)) for each in (*chosen, name)]
        requests = str(self._environments[name] / REQUESTS)
        try:
            found = self._installer.report("requests", requests, folders[-1], *folders)
        except (UserError, OSError) as error:
            return str(error)
        return "; ".join(found["unsatisfied"])

    def _folder(self, name: str) -> Path:
        assert self._store is not None  # noqa: S101 - it has made the record
        return self._store.packages(self._environments[name])

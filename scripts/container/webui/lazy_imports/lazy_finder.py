"""Find packages of a table without running their code, and load them at their first use."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from .lazy_objects import (
    OF_THE_IMPORT_SYSTEM,
    LazyModule,
    StandIn,
    find_package,
    get_plainly,
    packages,
)
from .lazy_packages import PACKAGES, LazyPackage

_OWN_CODE = ("<frozen importlib", str(Path(__file__).parent))
_bootstrap: Any = importlib._bootstrap


class _Package:
    """A package of the table, with its modules that were imported so far."""

    def __init__(self, row: LazyPackage) -> None:
        self.row = row
        self.members: dict[str, LazyModule] = {}
        self.is_open = False  # its code runs, or has run
        self.has_failed = False
        self.loaded_by = ""
        self._stand_ins: dict[tuple[str, str], tuple[StandIn, set[str]]] = {}
        self._taken: set[tuple[str, str]] = set()
        self._assigned: dict[str, dict[str, Any]] = {}

    def load(self) -> None:
        """Import the package and its members for real; wait if another thread does.

        Raises:
            BaseException: what the import raises. Later import statements then raise it, too.
        """
        try:
            with _bootstrap._ModuleLockManager(self.row.name):
                if not self.is_open:
                    self._load()
        except _bootstrap._DeadlockError:
            pass  # Two threads import in a circle. Here, too, Python accepts a partial module.

    def _load(self) -> None:
        self.is_open = True
        self.loaded_by = _name_importer(sys._getframe(1))
        names = (self.row.name, *self.members)
        for name in names:
            sys.modules.pop(name, None)
        try:
            for name in names:
                __import__(name)
                if type(sys.modules[name]) is LazyModule and name not in self._assigned:
                    # Another thread was about to create it without its code.
                    del sys.modules[name]
                    __import__(name)
        except BaseException:
            self._close()
            raise
        for (module_name, name), (stand_in, _) in self._stand_ins.items():
            if hasattr(sys.modules[module_name], name):
                vars(stand_in)["_real"] = getattr(sys.modules[module_name], name)
        for name, module in self.members.items():
            _become_plain(module, sys.modules[name], self._assigned.pop(name, {}))
        for stand_in, importers in self._stand_ins.values():
            for importer in importers & sys.modules.keys():
                _replace(stand_in, vars(sys.modules[importer]))

    def _close(self) -> None:
        """Forget what ran until the package failed; it is lazy no longer."""
        self.is_open, self.has_failed = False, True
        for name, module in self.members.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
            if name in self._assigned:
                _empty(module)
                get_plainly(module, "__dict__").update(self._assigned[name])

    def find_without_loading(self, module: ModuleType, name: str, frame: FrameType) -> object:
        """Return what the asking code gets while the package is not loaded; None: load it."""
        module_name = get_plainly(module, "__name__")
        importer, full_name = _name_importer(frame), f"{module_name}.{name}"
        if module_name == self.row.name and name in self.row.provided:
            for each in self.row.eager:
                __import__(each)
            return getattr(sys.modules[self.row.provided[name]], name)
        if full_name not in self.row.taken.get(importer, ()):
            return None
        self._taken.add((importer, full_name))
        path = get_plainly(module, "__dict__").get("__path__")
        if path and PathFinder.find_spec(full_name, path):
            __import__(full_name)
            return sys.modules[full_name]
        new = StandIn(self, module_name, name), set[str]()
        stand_in, importers = self._stand_ins.setdefault((module_name, name), new)
        importers.add(importer)
        return stand_in

    def list_untaken(self) -> list[str]:
        """Return names that an imported importer has not taken, as `importer: name`."""
        return [
            f"{importer}: {name}"
            for importer, names in self.row.taken.items()
            for name in names
            if importer in sys.modules and (importer, name) not in self._taken
        ]

    def make_lazy(self, spec: ModuleSpec) -> None:
        """Have a module created without its code."""

        def create_module(spec: ModuleSpec) -> ModuleType:
            self.members[spec.name] = module = LazyModule(spec.name)
            del get_plainly(module, "__dict__")["__doc__"]
            return module

        _override(spec, create_module=create_module, exec_module=lambda _: None)

    def reuse_member(self, spec: ModuleSpec) -> None:
        """Have a member's code run in the module object that importers hold."""

        def create_module(spec: ModuleSpec) -> ModuleType:
            module = self.members[spec.name]
            self._assigned[spec.name] = {
                name: value
                for name, value in get_plainly(module, "__dict__").items()
                if not (name in OF_THE_IMPORT_SYSTEM or isinstance(value, StandIn))
                and getattr(value, "__name__", "") != f"{spec.name}.{name}"
            }
            _empty(module)
            return module

        _override(spec, create_module=create_module)


class LazyFinder:
    """Finder of the table's packages; the first of `sys.meta_path`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec that creates a module without its code; None for an import as usual."""
        package = find_package(name)
        if package is None or package.has_failed:
            return None
        spec = PathFinder.find_spec(name, path)
        if target:  # importlib.reload()
            package.load()
            return None
        if package.is_open:
            if spec and type(package.members.get(name)) is LazyModule:
                package.reuse_member(spec)
                return spec
            return None
        if spec and isinstance(spec.loader, SourceFileLoader):
            package.make_lazy(spec)
            return spec
        if name == package.row.name or name in package.row.absent:
            return None
        package.load()  # for compiled modules, and what only the package's code makes importable
        return _find_loaded(name)


def make_lazy(rows: Iterable[LazyPackage] = PACKAGES) -> None:
    """Import the packages of a table at their first use from now on."""
    for row in rows:
        packages.update(dict.fromkeys(row.eager), **{row.name: _Package(row)})
    sys.meta_path.insert(0, LazyFinder)


def report() -> dict[str, dict[str, Any]]:
    """Return by package that is installed what the start made of it.

    Returns:
        Whether it was imported, or need not be in this release, which module has loaded it, and
        which names no importer took that has been imported.
    """
    return {
        name: {
            "imported": bool(package.members) or not package.row.is_everywhere,
            "loaded_by": package.loaded_by,
            "untaken": package.list_untaken(),
        }
        for name, package in packages.items()
        if package and PathFinder.find_spec(name.partition(".")[0])
    }


def _name_importer(frame: FrameType | None) -> str:
    """Return the name of the module whose code runs in a frame, imports and this file left out."""
    while frame and frame.f_code.co_filename.startswith(_OWN_CODE):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def _override(spec: ModuleSpec, **methods: Callable[..., ModuleType | None]) -> None:
    """Replace methods of a spec's loader, which no other spec has."""
    vars(spec.loader).update(methods)


def _find_loaded(name: str) -> ModuleSpec | None:
    """Return a spec that finds a module which is loaded already, if it is."""
    module = sys.modules.get(name)
    if module is None:
        return None
    own, spec = module.__spec__, ModuleSpec(name, SourceFileLoader(name, ""))
    _override(
        spec,
        create_module=lambda _: module,
        exec_module=lambda module: setattr(module, "__spec__", own),
    )
    return spec


def _empty(module: LazyModule) -> None:
    """Make a module as if new, but for its eager modules, which are not imported again."""
    own_name, names = get_plainly(module, "__name__"), get_plainly(module, "__dict__")
    eager = {
        name: value
        for name, value in names.items()
        if value is sys.modules.get(f"{own_name}.{name}", names)
    }
    names.clear()
    ModuleType.__init__(module, own_name)
    names.update(eager)


def _become_plain(module: LazyModule, imported: ModuleType, assigned: Mapping[str, Any]) -> None:
    """End the laziness of a module; what was assigned to it before stays assigned."""
    if type(module) is LazyModule:
        module.__class__ = ModuleType  # type: ignore[assignment]
    if imported is not module:  # its code has put another object into its place
        vars(module).update(vars(imported), __getattr__=lambda name: getattr(imported, name))
    for name, value in assigned.items():
        setattr(imported, name, value)


def _replace(stand_in: StandIn, names: dict[str, Any]) -> None:
    """Replace a stand-in in the namespace of a module."""
    for name, value in list(names.items()):
        if value is stand_in and "_real" in vars(stand_in):
            names[name] = vars(stand_in)["_real"]

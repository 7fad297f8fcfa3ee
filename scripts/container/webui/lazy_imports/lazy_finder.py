"""Find packages of a table without running their code, and load them at their first use."""

import importlib
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
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
from .lazy_packages import PACKAGES, STARTER, LazyPackage

_OWN_CODE = ("<frozen importlib", str(Path(__file__).parent))
_bootstrap: Any = importlib._bootstrap
_loads = threading.Event()


class _Package:
    """A package of the table, with its modules that were imported so far."""

    def __init__(self, row: LazyPackage) -> None:
        self.row = row
        self.members: dict[str, LazyModule] = {}
        self.is_open = False  # its code runs, or has run
        self.loading_thread = 0  # in which it runs
        self.has_failed = False
        self.loaded_by = ""
        self._stand_ins: dict[tuple[str, str], StandIn] = {}
        self._taken: set[tuple[str, str]] = set()  # importer, full name
        self._assigned: dict[str, dict[str, Any]] = {}

    def load(self, name: str) -> None:
        """Import the package and its members for real; wait if another thread does.

        Args:
            name: the member that is used. While the package's own code runs, only it is imported.

        Raises:
            BaseException: what the import raises. Later import statements then raise it, too.
        """
        with ExitStack() as lock:
            try:
                lock.enter_context(_bootstrap._ModuleLockManager(self.row.name))
            except _bootstrap._DeadlockError:
                return  # Two threads import in a circle. Here, too, Python accepts partial modules.
            if self.is_open:
                self._run(name)
            else:
                self._load()

    def _run(self, name: str) -> None:
        """Run a member's code, unless it has begun."""
        if name in self.members and name not in self._assigned:
            self._assigned[name] = {}
            sys.modules.pop(name, None)
            __import__(name)

    def _load(self) -> None:
        self.is_open, self.loading_thread = True, threading.get_ident()
        self.loaded_by = _name_importer(sys._getframe(1))
        _loads.set()
        top, *below = names = [*self.members]
        for name in below:
            sys.modules.pop(name, None)
        try:
            if sys.modules.get(top) is self.members[top]:
                # In its place: threads that miss it would wait for it, and hold what it imports.
                self._assigned[top] = {}
                importlib.reload(self.members[top])
            self.loading_thread = 0
            while waiting := [name for name in [*self.members] if name not in self._assigned]:
                for name in waiting:
                    self._run(name)
        except BaseException:  # It is lazy no longer, and nothing of it stays.
            self.is_open, self.has_failed, self.loading_thread = False, True, 0
            self._assigned.clear()
            for name in names:
                sys.modules.pop(name, None)
            raise
        for (module_name, name), stand_in in self._stand_ins.items():
            if hasattr(sys.modules[module_name], name):
                vars(stand_in)["_real"] = getattr(sys.modules[module_name], name)
        for name, module in [*self.members.items()]:
            _become_plain(module, sys.modules[name], self._assigned.get(name, {}))
        for importer in {importer for importer, _ in self._taken} & sys.modules.keys():
            namespace = vars(sys.modules[importer])
            for name, value in list(namespace.items()):
                if type(value) is StandIn and "_real" in vars(value):
                    namespace[name] = vars(value)["_real"]

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
        new = StandIn(self.load, module_name, name)
        return self._stand_ins.setdefault((module_name, name), new)

    def list_untaken(self) -> list[str]:
        """Return names that an imported importer has not taken, as `importer: name`."""
        return [
            f"{importer}: {name}"
            for importer, names in self.row.taken.items()
            for name in names
            if importer in sys.modules and (importer, name) not in self._taken
        ]

    def create_member(self, spec: ModuleSpec) -> ModuleType:
        """Create a module whose code does not run yet."""
        if spec.name not in self.members:
            self.members[spec.name] = module = LazyModule(spec.name)
            del get_plainly(module, "__dict__")["__doc__"]
        return self.members[spec.name]

    def empty_member(self, spec: ModuleSpec) -> ModuleType:
        """Return the module object that importers hold, as if new, to run its code in it."""
        module = self.members[spec.name]
        names = get_plainly(module, "__dict__")
        assigned = self._assigned[spec.name] = {}
        for name, value in list(names.items()):
            below = f"{spec.name}.{name}"
            if name in OF_THE_IMPORT_SYSTEM or sys.modules.get(below, names) is value:
                continue  # an eager module is not imported again
            if type(value) is not StandIn and getattr(value, "__name__", "") != below:
                assigned[name] = value
            del names[name]
        names["__doc__"] = None
        return module


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
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        methods = vars(spec.loader)  # of this spec alone
        if not package.is_open or package.loading_thread not in (0, threading.get_ident()):
            methods.update(create_module=package.create_member, exec_module=lambda _: None)
            return spec
        # Compiled modules create their own object.
        is_source = isinstance(spec.loader, SourceFileLoader)
        if is_source and type(package.members.get(name)) is LazyModule:
            methods.update(create_module=package.empty_member)
            if target:  # importlib.reload(), which creates no module
                package.empty_member(spec)
            return spec
        return None


def make_lazy(rows: Iterable[LazyPackage] = PACKAGES) -> None:
    """Import the packages of a table at their first use from now on."""
    for row in rows:
        packages.update(dict.fromkeys(row.eager), **{row.name: _Package(row)})
    sys.meta_path.insert(0, LazyFinder)


def wait_for_load() -> None:
    """Wait until a package is used first."""
    _loads.wait()
    _loads.clear()


def report() -> dict[str, Any]:
    """Return what the start made of each package that is installed.

    Returns:
        `is_complete`: whether the module has run that imports them. `packages`: by name, whether it
        was imported, or need not be in this release, which module has loaded it, and which names no
        importer took that has been imported.
    """
    rows = {
        name: {
            "imported": bool(package.members) or not package.row.is_everywhere,
            "loaded_by": package.loaded_by,
            "untaken": package.list_untaken(),
        }
        for name, package in packages.items()
        if package and PathFinder.find_spec(name.partition(".")[0])
    }
    return {"is_complete": STARTER in sys.modules, "packages": rows}


def _name_importer(frame: FrameType | None) -> str:
    """Return the name of the module whose code runs in a frame, imports and this file left out."""
    while frame and frame.f_code.co_filename.startswith(_OWN_CODE):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def _become_plain(module: LazyModule, imported: ModuleType, assigned: dict[str, Any]) -> None:
    """End the laziness of a module; what was assigned to it before stays assigned."""
    if type(module) is LazyModule:
        module.__class__ = ModuleType  # type: ignore[assignment]
    if imported is not module:  # it is compiled, or its code has put another object into its place
        vars(module).update(vars(imported), __getattr__=lambda name: getattr(imported, name))
    for name, value in assigned.items():
        setattr(imported, name, value)

"""Define the modules of a package that is not loaded, and the stand-ins for its objects."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

OF_THE_IMPORT_SYSTEM = frozenset(
    f"__{name}__"
    for name in ("class", "cached", "file", "loader", "name", "package", "path", "spec")
)
"""Attributes of a lazy module that are there without loading it."""

get_plainly = ModuleType.__getattribute__
packages: dict[str, Any] = {}
"""Packages of the table by name, and None for modules below them that are imported as usual."""


def find_package(name: str) -> Any:  # noqa: ANN401 - a package or None
    """Return the package that a module belongs to, or None."""
    while name and name not in packages:
        name = name.rpartition(".")[0]
    return packages.get(name)


class LazyModule(ModuleType):
    """A module whose code has not run yet."""

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a module
        if name not in OF_THE_IMPORT_SYSTEM:
            own_name = get_plainly(self, "__name__")
            package = find_package(own_name)
            if package.is_open or package.has_failed:
                package.load(own_name)  # waits, if another thread does it
            elif name not in get_plainly(self, "__dict__"):
                found = package.find_without_loading(self, name, sys._getframe(1))
                if found is not None:
                    return found
                package.load(own_name)
        return get_plainly(self, name)


class StandIn:
    """Stands for an object of a package that is not loaded; whatever is done with it loads it."""

    def __init__(self, load: Callable[[str], None], module: str, name: str) -> None:
        self.__dict__.update(_load=load, _module=module, _name=name)

    def _find_real(self) -> Any:  # noqa: ANN401 - any object
        names = self.__dict__
        if "_real" not in names:
            self._load(self._module)
        if "_real" in names:  # before anybody assigned another one
            return names["_real"]
        module = sys.modules[self._module]
        try:  # while the package is loading, in a circle
            return getattr(module, self._name)
        except AttributeError:
            message = f"cannot import name {self._name!r} from {self._module!r} ({module.__file__})"
            raise ImportError(message, name=self._module, path=module.__file__) from None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, D102 - of any callable
        return self._find_real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any object
        if name.startswith("__"):  # asked for by `typing`, of everything in an annotation
            raise AttributeError(name)
        return getattr(self._find_real(), name)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any object
        setattr(self._find_real(), name, value)

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - of any container or generic class
        return self._find_real()[key]

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._find_real())

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return (self._find_real(),)

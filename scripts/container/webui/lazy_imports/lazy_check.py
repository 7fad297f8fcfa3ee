"""Load every package of the table that is installed, and list what does not hold.

    PYTHONPATH=/opt/worker/scripts/container/webui python -m lazy_imports.lazy_check

Run by the WebUI's Python. Prints a line for each name of the table that its package does not have.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder

from .lazy_finder import make_lazy
from .lazy_packages import PACKAGES, LazyPackage


def is_there(name: str) -> bool:
    """Return whether an object or a module can be imported."""
    module, _, attribute = name.rpartition(".")
    try:
        if not module or not hasattr(import_module(module), attribute):
            import_module(name)
    except ImportError:
        return False
    return True


def list_problems(row: LazyPackage) -> Iterator[str]:
    """Yield what of a row does not hold."""
    if not is_there(row.name):
        yield row.name
    names = {name for taken in row.taken.values() for name in taken}
    names |= {f"{module}.{name}" for name, module in row.provided.items()}
    yield from (name for name in sorted({*names, *row.eager}) if not is_there(name))


def main() -> None:
    """Print the problems of all rows."""
    make_lazy()
    for row in PACKAGES:
        if PathFinder.find_spec(row.name.partition(".")[0]):
            for problem in list_problems(row):
                print(f"{row.name}: {problem}")


if __name__ == "__main__":
    main()

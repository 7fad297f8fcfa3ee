"""Load every package of the table that is installed, and list what does not hold.

    PYTHONPATH=/opt/worker/scripts/container/webui python -m lazy_imports.lazy_check

Run by the WebUI's Python. Two threads at once use each package first, as an extension would.
Prints a line for each name of the table that its package does not have.
"""

from concurrent.futures import ThreadPoolExecutor
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


def list_missing(row: LazyPackage) -> list[str]:
    """Load a package, and return what its row names and is not there."""
    if not is_there(row.name):
        return [row.name]
    vars(import_module(row.name))  # loads it
    names = {name for taken in row.taken.values() for name in taken}
    names |= {f"{module}.{name}" for name, module in row.provided.items()}
    return [name for name in sorted({*names, *row.eager}) if not is_there(name)]


def main() -> None:
    """Print what is missing of each row."""
    make_lazy()
    with ThreadPoolExecutor(2) as threads:
        for row in PACKAGES:
            if PathFinder.find_spec(row.name.partition(".")[0]):
                first, second = threads.map(list_missing, (row, row))
                for name in dict.fromkeys(first + second):
                    print(f"{row.name}: {name}")


if __name__ == "__main__":
    main()

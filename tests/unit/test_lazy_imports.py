"""Lazy imports behave like plain ones, but later."""

from __future__ import annotations

import _json
import importlib
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.container.webui import launcher
from scripts.container.webui.lazy_imports import lazy_objects
from scripts.container.webui.lazy_imports.lazy_finder import make_lazy
from scripts.container.webui.lazy_imports.lazy_objects import LazyModule
from scripts.container.webui.lazy_imports.lazy_packages import LazyPackage
from tests.support.worker import free_port

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules that can be imported; what was imported is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(**sources: str) -> None:
        for name, source in sources.items():
            *folders, file = name.split("__")
            folder = tmp_path.joinpath(*folders)
            folder.mkdir(parents=True, exist_ok=True)
            if folders:
                folder.joinpath("__init__.py").touch()
            path = folder / f"{file or '__init__'}.py"
            path.write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    lazy_objects.packages.clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def package(name: str, **columns: Any) -> None:
    make_lazy([LazyPackage(name, "of this test", **columns)])


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_code_runs_at_the_first_use_of_a_name(write: Write) -> None:
    write(heavy="value = 1", importer="import heavy\n\ndef use(): return heavy.value")
    package("heavy")
    importer, module = load("importer"), sys.modules["heavy"]
    assert type(module) is LazyModule
    assert "value" not in object.__getattribute__(module, "__dict__")
    assert importer.use() == 1
    assert (type(module), sys.modules["heavy"]) == (ModuleType, module)


def test_modules_below_run_after_their_package(write: Write) -> None:
    write(
        order="ran = []",
        heavy__="import order; order.ran.append('package'); from heavy import first",
        heavy__first="import order; order.ran.append('first')",
        heavy__second="import order; order.ran.append('second'); value = 2",
        importer="import heavy.second, heavy.first\n\ndef use(): return heavy.second.value",
    )
    package("heavy")
    importer = load("importer")
    assert load("order").ran == []
    assert importer.use() == 2
    assert load("order").ran == ["package", "first", "second"]


@pytest.mark.parametrize(
    "use",
    [
        "from heavy import value",
        "from heavy import *; assert value == 1",
        "import heavy; assert 'value' in dir(heavy)",
        "import heavy; assert vars(heavy)['value'] == 1",
        "import heavy; assert heavy.__doc__ == 'Words.'",
        "import heavy, importlib; assert importlib.reload(heavy).value == 1",
        "import heavy; assert heavy.computed == 'computed'",
    ],
)
def test_every_use_finds_what_a_plain_import_has(write: Write, use: str) -> None:
    write(
        heavy__="""
            'Words.'
            value = 1

            def __getattr__(name):
                if name == 'computed': return name
                raise AttributeError(name)
            """,
        importer=use,
    )
    package("heavy")
    load("heavy")
    load("importer")


def test_threads_wait_for_the_whole_module(write: Write) -> None:
    write(
        heavy="""
            import time
            early, count = 1, globals().get('count', 0) + 1
            time.sleep(0.2)
            late = 2
            """
    )
    package("heavy")
    module, found = load("heavy"), []
    threads = [
        threading.Thread(target=lambda: found.append((module.early, module.late, module.count)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [(1, 2, 1)] * 8


def _use_while_it_loads(module: ModuleType, found: list[int]) -> None:
    """Use a package in one thread, and import a module of it in another while it loads."""
    threads = [
        threading.Thread(target=lambda: found.append(module.late)),
        threading.Thread(target=lambda: found.append(load("heavy.below").late)),
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join(10)


def test_an_import_statement_waits_while_another_thread_loads(write: Write) -> None:
    write(
        heavy__="import time; early = 1; time.sleep(0.3); from heavy.below import late",
        heavy__below="from heavy import early; late = early + 1",
    )
    package("heavy")
    module, found = load("heavy"), list[int]()
    load("heavy.below")
    _use_while_it_loads(module, found)
    assert found == [2, 2]


def test_a_module_that_is_imported_while_its_package_loads_is_whole(write: Write) -> None:
    write(
        heavy__="import time; time.sleep(0.3); early = 1; from heavy.below import late",
        heavy__below="from heavy import early; late = early + 1",
    )
    package("heavy")
    module, found = load("heavy"), list[int]()
    _use_while_it_loads(module, found)
    assert found == [2, 2]
    assert type(sys.modules["heavy.below"]) is ModuleType


def test_threads_that_import_in_a_circle_do_not_wait_for_ever(write: Write) -> None:
    write(
        meeting="import threading; both = threading.Barrier(2)",
        heavy="import meeting; meeting.both.wait(5); import other; value = 1",
        other="import meeting; meeting.both.wait(5); import heavy",
    )
    package("heavy")
    module = load("heavy")
    threads = [
        threading.Thread(target=lambda: module.value, daemon=True),
        threading.Thread(target=lambda: load("other"), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_assigned_attributes_survive_loading(write: Write) -> None:
    write(heavy="def fetch(): return 'own'\n\ndef use(): return fetch()")
    package("heavy")
    module = load("heavy")
    setattr(module, "fetch", lambda: "assigned")  # noqa: B010 - of a module
    assert module.use() == "assigned"


def test_an_attribute_set_back_to_a_stand_in_is_the_real_one(write: Write) -> None:
    write(
        heavy="def fetch(): return 'own'\n\ndef use(): return fetch()",
        importer="import heavy; own = heavy.fetch; heavy.fetch = None; heavy.fetch = own",
    )
    package("heavy", taken={"importer": ("heavy.fetch",)})
    importer = load("importer")
    assert type(sys.modules["heavy"]) is LazyModule
    assert sys.modules["heavy"].use() == "own"
    assert importer.own is sys.modules["heavy"].fetch


TAKEN = {"importer": ("heavy.Base", "heavy.below", "heavy.below.make")}
HEAVY = {
    "heavy__": "class Base: pass",
    "heavy__below": "from heavy import Base\n\ndef make(): return Base()",
    "importer": """
        from typing import Optional
        from heavy import Base as Parent, below
        from heavy.below import make

        def annotated(value: Optional[Parent] = None) -> None: ...
        def is_one(value): return isinstance(value, Parent)
        def class_of():
            class Sub(Parent): pass
            return Sub
        """,
}


def test_a_listed_importer_takes_names_without_loading(write: Write) -> None:
    write(**HEAVY)
    package("heavy", taken=TAKEN)
    importer = load("importer")
    assert type(sys.modules["heavy"]) is type(sys.modules["heavy.below"]) is LazyModule
    assert importer.is_one(importer.make())
    heavy = sys.modules["heavy"]
    assert (importer.Parent, importer.make) == (heavy.Base, sys.modules["heavy.below"].make)


def test_a_stand_in_can_be_subclassed(write: Write) -> None:
    write(**HEAVY)
    package("heavy", taken=TAKEN)
    assert load("importer").class_of().__mro__[1] is sys.modules["heavy"].Base


def test_another_importer_gets_the_real_object(write: Write) -> None:
    write(**HEAVY, extension="from heavy import Base")
    package("heavy", taken=TAKEN)
    extension = load("extension")
    assert isinstance(extension.Base, type)
    assert load("importer").Parent is extension.Base


def test_a_taken_name_that_is_missing_is_an_import_error(write: Write) -> None:
    write(heavy="", importer="from heavy import gone")
    package("heavy", taken={"importer": ("heavy.gone",)})
    with pytest.raises(ImportError, match="cannot import name 'gone' from 'heavy'"):
        load("importer").gone()


@pytest.mark.parametrize(
    "source",
    ["import absent_library", "raise ValueError('broken')", "1 / 0", "raise SystemExit(3)"],
)
def test_a_failure_is_that_of_the_plain_import(write: Write, source: str) -> None:
    write(heavy=f"value = 1\n{source}")
    with pytest.raises(BaseException) as plain:  # noqa: PT011 - of several types
        load("heavy")
    package("heavy")
    module = load("heavy")
    for attempt in (lambda: module.value, lambda: module.other, lambda: load("heavy")):
        with pytest.raises(plain.type) as lazy:
            attempt()
        assert str(lazy.value) == str(plain.value)
        assert "heavy" not in sys.modules


def test_what_is_not_there_is_reported_as_usual(write: Write) -> None:
    write(heavy__="")
    with pytest.raises(ModuleNotFoundError) as plain:
        load("heavy.absent")
    del sys.modules["heavy"]
    package("heavy")
    package("not_installed")
    with pytest.raises(ModuleNotFoundError) as lazy:
        load("heavy.absent")
    assert str(lazy.value) == str(plain.value)
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed'"):
        load("not_installed")


def test_a_missing_module_is_missed_without_loading(write: Write) -> None:
    write(
        heavy__="",
        importer="try: import heavy.absent\nexcept ImportError: found = False",
    )
    package("heavy")
    assert not load("importer").found
    assert type(sys.modules["heavy"]) is LazyModule


def test_a_module_that_replaces_itself_is_found_by_earlier_importers(write: Write) -> None:
    write(
        heavy="""
            import sys, types
            class Own(types.ModuleType):
                value = 1
            sys.modules[__name__] = Own(__name__)
            """,
    )
    package("heavy")
    module = load("heavy")
    assert module.value == 1
    assert load("heavy").value == 1


def test_a_compiled_module_is_lazy_too(write: Write, tmp_path: Path) -> None:
    if not hasattr(_json, "__file__"):
        pytest.skip("this Python has the module built in")
    write(heavy__="value = 1", importer="import heavy._json as json\n\ndef use(): return json")
    compiled = Path(_json.__file__)
    tmp_path.joinpath("heavy", compiled.name).symlink_to(compiled)
    package("heavy")
    importer = load("importer")
    assert type(sys.modules["heavy"]) is type(importer.use()) is LazyModule
    assert importer.use().scanstring('text"', 0) == ("text", 5)
    assert type(sys.modules["heavy"]) is ModuleType
    assert load("heavy._json").scanstring is importer.use().scanstring


def test_eager_modules_are_imported_without_their_package(write: Write) -> None:
    write(
        heavy__="raise RuntimeError('ran')",
        heavy__tools="",
        heavy__metric="from heavy import tools\n\nclass Metric: pass",
        heavy__plot="raise RuntimeError('ran')",
        importer="from heavy import Metric\n\nclass Own(Metric): pass\n\nimport heavy.plot",
    )
    package(
        "heavy",
        eager=("heavy.tools", "heavy.metric"),
        provided={"Metric": "heavy.metric"},
    )
    assert load("importer").Own.__mro__[1] is load("heavy.metric").Metric


@pytest.mark.parametrize(("value", "ran"), [("on", "False"), ("off", "True"), ("", "True")])
def test_the_launcher_is_lazy_where_the_environment_says_so(
    tmp_path: Path, value: str, ran: str
) -> None:
    tmp_path.joinpath("timm.py").write_text("import sys; sys.ran = True", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text("import timm, sys; print(hasattr(sys, 'ran'))", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, launcher.__file__, tmp_path / "heap.json", "127.0.0.1", "9", script],
        env={"WEBUI_LAZY_IMPORTS": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [ran]


def test_the_launcher_reports_who_used_a_package_first(tmp_path: Path) -> None:
    tmp_path.joinpath("timm.py").write_text("value = 1", encoding="utf-8")
    port, script = free_port(), tmp_path / "script.py"
    source = f"""
        import json, pathlib, socket, time, timm
        report = pathlib.Path("lazy-imports.json")

        def users():
            return json.loads(report.read_text())["packages"]["timm"]["loaded_by"]

        server = socket.create_server(("127.0.0.1", {port}))
        while not report.exists(): time.sleep(0.01)
        print(users() or "nobody", flush=True)
        assert timm.value == 1
        while not users(): time.sleep(0.01)
        print(users())
        """
    script.write_text(textwrap.dedent(source), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, launcher.__file__, "heap.json", "127.0.0.1", str(port), script],
        env={"WEBUI_LAZY_IMPORTS": "on"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.split() == ["nobody", "__main__"]

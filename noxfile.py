"""Sessions that test the project: `nox --list` shows them, bare `nox` runs the default ones."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import nox

nox.needs_version = ">=2024.4.15"
DEFAULT = ("lint", "tests", "engine", "faults")
nox.options.sessions = DEFAULT
nox.options.stop_on_first_error = False

LOCK = "requirements/dev.txt"
# Without pytest-timeout: its --timeout is per test, the sessions' own is until the first picture.
SMOKE = ("pytest", "-q", "-p", "no:timeout", "--tb=no", "--no-summary", "tests/smoke")
BENCHMARKS = ("build", "wire", "models", "worker", "runtime", "scaling", "extensions", "everyday")
PYPROJECT = nox.project.load_toml(Path(__file__).with_name("pyproject.toml"))
PYTHONS = nox.project.python_versions(PYPROJECT)
END_SECONDS = 60  # of an interrupted program


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Have nox end by SIGTERM as by Ctrl-C: it sends SIGTERM to its program, and waits."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def run_module(session: nox.Session, *arguments: str, success_codes: Sequence[int] = (0,)) -> None:
    """Run a Python module, which is given time to remove its containers when it is interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    session.run(
        *(sys.executable, "-m", *arguments),
        success_codes=success_codes,
        terminate_timeout=END_SECONDS,
    )


@nox.session(venv_backend="none", tags=["quick"])
def lint(session: nox.Session) -> None:
    """Run every linter over every file, as `invoke lint` does."""
    run_module(session, "invoke", "lint", *session.posargs)


@nox.session(venv_backend="none", tags=["quick"])
def tests(session: nox.Session) -> None:
    """Run the tests that need neither an engine nor a network."""
    options = session.posargs or ["-n", "2"]
    run_module(session, "pytest", "tests/unit", "-rs", *options)


# Unlike uv, venv brings pip, which some tests run.
@nox.session(python=PYTHONS, venv_backend="venv", tags=["matrix"])
def tests_on(session: nox.Session) -> None:
    """Run the same tests on each supported Python."""
    session.install("--require-hashes", "--requirement", LOCK)
    session.run("pytest", "tests/unit", *(session.posargs or ["-n", "2"]))


@nox.session(venv_backend="none")
def engine(session: nox.Session) -> None:
    """Run the tests with a real Docker engine; without one they are skipped."""
    # By file: the tests of one share containers. In their order: the slowest file is the third.
    options = session.posargs or ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    run_module(session, "pytest", "tests/engine", "-rs", *options)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Break images on purpose; the smoke tests must find and name each fault."""
    options = session.posargs or ["-n", "2"]
    run_module(session, "pytest", "tests/faults", "-rs", *options)


@nox.session(venv_backend="none", tags=["smoke"])
def smoke(session: nox.Session) -> None:
    """Test an image without a GPU; `-- --variant V --image REF` chooses it."""
    run_module(session, *SMOKE, *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def gpu_smoke(session: nox.Session) -> None:
    """Test an image on this machine's GPUs; fails without one."""
    run_module(session, *SMOKE, "--gpu", "all", *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def api_smoke(session: nox.Session) -> None:
    """Test a running worker: `-- --url http://host:3000`; its login is in API_AUTH."""
    if not any(option.startswith("--url") for option in session.posargs):
        session.error("which worker? nox -s api_smoke -- --url http://host:3000")
    run_module(session, *SMOKE, *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def endpoint_smoke(session: nox.Session) -> None:
    """Test a RunPod endpoint by jobs: `-- --endpoint ID`; the key is in RUNPOD_API_KEY."""
    if not any(option.startswith("--endpoint") for option in session.posargs):
        session.error("which endpoint? nox -s endpoint_smoke -- --endpoint ID")
    run_module(session, *SMOKE, *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Compare with the baseline; `-- NAME…` chooses, by default all. Takes the whole machine."""
    for name in session.posargs or BENCHMARKS:
        run_module(session, f"benchmarks.{name}", success_codes=[0, 1])
    run_module(session, "scripts.reference")  # the tables of results

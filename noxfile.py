"""What proves the project: `nox --list` shows the sessions, bare `nox` runs the default ones."""

import sys

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests", "engine", "faults"]
nox.options.stop_on_first_error = False

LOCK = "requirements/dev.txt"
# Without pytest-timeout: its --timeout is per test, the sessions' own is until the first picture.
PROVE = (
    *(sys.executable, "-m", "pytest", "-q", "-p", "no:timeout", "--tb=no", "--no-summary"),
    "tests/smoke",
)
BENCHMARKS = ("build", "models", "worker", "runtime", "scaling", "everyday")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(venv_backend="none", tags=["quick"])
def lint(session: nox.Session) -> None:
    """Every linter over every file: what `invoke lint` runs."""
    session.run(sys.executable, "-m", "invoke", "lint", *session.posargs)


@nox.session(venv_backend="none", tags=["quick"])
def tests(session: nox.Session) -> None:
    """Tests that need neither an engine nor a network."""
    words = session.posargs or ["-n", "2"]
    session.run(sys.executable, "-m", "pytest", "tests/unit", "-rs", *words)


# Unlike uv, venv brings pip, which some tests run.
@nox.session(python=PYTHONS, venv_backend="venv", tags=["matrix"])
def tests_on(session: nox.Session) -> None:
    """The same tests on each supported Python."""
    session.install("--require-hashes", "--requirement", LOCK)
    session.run("pytest", "tests/unit", *(session.posargs or ["-n", "2"]))


@nox.session(venv_backend="none")
def engine(session: nox.Session) -> None:
    """Tests against a real Docker engine; without one, one line says that they were skipped."""
    session.run(sys.executable, "-m", "pytest", "tests/engine", "-rs", *session.posargs)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Images broken on purpose: the smoke tests must find each fault, and name it."""
    session.run(sys.executable, "-m", "pytest", "tests/faults", "-rs", *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def smoke(session: nox.Session) -> None:
    """Prove an image without a GPU; `-- --variant V --image REF` chooses it."""
    session.run(*PROVE, *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def gpu_smoke(session: nox.Session) -> None:
    """Prove an image on this machine's GPUs; never passes without one."""
    session.run(*PROVE, "--gpu", "all", *session.posargs)


@nox.session(venv_backend="none", tags=["smoke"])
def api_smoke(session: nox.Session) -> None:
    """Prove a running worker: `-- --url http://host:3000`; its login is read from API_AUTH."""
    if not any(word.startswith("--url") for word in session.posargs):
        session.error("which worker? nox -s api_smoke -- --url http://host:3000")
    session.run(*PROVE, *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Compare with the baseline; `-- NAME…` chooses, by default all. Takes the whole machine."""
    for name in session.posargs or BENCHMARKS:
        session.run(sys.executable, "-m", f"benchmarks.{name}", success_codes=[0, 1])
    session.run(sys.executable, "-m", "scripts.reference")  # the tables of results

"""Run an extension's installer, and compare what it asked of pip with what is installed.

The environment that it installs into sees the image's packages, and pip is held to their versions,
so nothing of the image is installed again or replaced. An installer's exit code proves nothing:
ControlNet's is 0 whatever pip refused.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.run_installer import installer_environment as launcher_environment
from scripts.container.helper_process import run_helper
from scripts.container.settings import Settings
from scripts.container.webui.environment import webui_environment
from scripts.container.webui.extensions.pip_output import (
    describe_unsatisfied,
    is_lasting,
    last_line,
)

REQUESTS: Final = "requests.jsonl"
"""Recorded calls of pip, in the environment's folder."""

CONSTRAINTS: Final = "constraints.txt"
"""Versions of the image, for pip."""

_SCRATCH: Final = "extension-install"
"""Folder in WORKER_DIR: not on the volume, which may be full, so that what failed is known."""


_REPORT: Final = "scripts.container.webui.extensions.package_report"
_CODE_ROOT: Final = Path(__file__).resolve().parents[4]
_SECRET: Final = re.compile(r"TOKEN|SECRET|PASSW|KEY|AUTH|CREDENTIAL|WEBHOOK|^RUNPOD_")
# Packages that build others are left free: pip (before 25.3) holds builds to them, too.
_UNBOUND: Final = ("pip", "setuptools", "wheel")


@dataclass(frozen=True)
class ImagePackages:
    """Packages that the WebUI has without extensions.

    Args:
        python: version of its Python.
        folder: that its environment installs into; .pth files in it lead to others.
        packages: version by canonical name.
    """

    python: str
    folder: str
    packages: Mapping[str, str]

    @property
    def constraints(self) -> str:
        """Requirements that hold pip to these versions."""
        bound = sorted(self.packages.keys() - set(_UNBOUND))
        return "".join(f"{name}=={self.packages[name]}\n" for name in bound)

    def site_folder(self, environment: Path) -> Path:
        """Return the folder of packages in an environment of this Python."""
        major, minor, *_ = self.python.split(".")
        return environment / f"lib/python{major}.{minor}/site-packages"


@dataclass(frozen=True)
class Outcome:
    """Result of an installer.

    Args:
        problem: why the extension cannot be used, both sides of a conflict; empty if it can.
        is_lasting: the same packages would fail in the same way.
        packages: version by name of what was installed.
    """

    problem: str = ""
    is_lasting: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Installer:
    """Runs programs of the WebUI's Python for extensions.

    Args:
        settings: of the worker.
        env: environment that all processes share.
        deadline: active time at which programs are killed.
    """

    settings: Settings
    env: Mapping[str, str]
    deadline: float

    @property
    def further_constraints(self) -> str:
        """Content of the files that PIP_CONSTRAINT names, which installers are held to, too.

        Raises:
            OSError: one cannot be read.
        """
        names = self.env.get("PIP_CONSTRAINT", "").split()
        return "\n".join(Path(name).read_text(encoding="utf-8") for name in names)

    def describe_image(self) -> ImagePackages:
        """Return the packages of the WebUI's Python.

        Raises:
            UserError: it does not say.
            OSError: a file cannot be written.
        """
        return ImagePackages(**self.report("image"))

    def install(self, extension: Path, environment: Path, image: ImagePackages) -> Outcome:
        """Make an environment and run an extension's installer in it.

        Without `install.py` its requirements.txt is installed; with one, that is the installer's
        affair, as it is upstream.

        Args:
            extension: folder of the extension; the installer may write into it.
            environment: folder to make.
            image: packages of the image.

        Raises:
            UserError: the environment cannot be made, or compared.
            OSError: a file cannot be written.
        """
        scratch = self.settings.worker_dir / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        (scratch / CONSTRAINTS).write_text(image.constraints, encoding="utf-8")
        self._make_environment(environment, image)
        pip_log = Path(self.env["PIP_LOG"])
        before = pip_log.stat().st_size if pip_log.exists() else 0
        env = installer_environment(self.settings, self.env, environment)
        if (extension / "install.py").is_file():
            arguments = [str(extension / "install.py")]
        else:
            arguments = ["-m", "pip", "install", "-r", str(extension / "requirements.txt")]
        output = scratch / "install.log"
        command = [str(environment / "bin/python"), *arguments]
        status = self._run(command, env, self.settings.webui_dir, output)
        if status is None:
            return Outcome("its installer did not end in time")
        requests, own_folder = scratch / REQUESTS, str(image.site_folder(environment))
        found = self.report("requests", str(requests), own_folder)
        if requests.exists():
            shutil.copyfile(requests, environment / REQUESTS)
        printed = output.read_text(encoding="utf-8", errors="replace")
        log = _read_from(pip_log, before) + printed
        problem = describe_unsatisfied(found["unsatisfied"], log)
        if status and not problem:
            problem = f"its installer failed: {last_line(printed)}"
        return Outcome(problem, bool(problem) and is_lasting(log), found["packages"])

    def report(self, *arguments: str) -> dict[str, Any]:
        """Run `package_report` on the WebUI's Python with arguments.

        Raises:
            UserError: it failed.
            OSError: a file cannot be written.
        """
        folder = self.settings.worker_dir
        output = folder / "packages.json"
        env = {**_tool_environment(self.env), "PYTHONPATH": str(_CODE_ROOT)}
        command = [str(self.settings.webui_python), "-m", _REPORT, *arguments]
        status = self._run(command, env, folder, output)
        line = last_line(output.read_text(encoding="utf-8", errors="replace"))
        try:
            report: dict[str, Any] = json.loads(line)
        except ValueError:
            status = status or 1
        if status != 0:
            raise UserError(f"the packages cannot be compared: {line}")
        return report

    def _make_environment(self, environment: Path, image: ImagePackages) -> None:
        python, folder = str(self.settings.webui_python), self.settings.worker_dir
        command = [python, "-m", "venv", "--without-pip", str(environment)]
        output = folder / _SCRATCH / "venv.log"
        if self._run(command, _tool_environment(self.env), folder, output) != 0:
            printed = output.read_text(encoding="utf-8", errors="replace")
            raise UserError(f"no environment can be made: {last_line(printed)}")
        # Code, not a path: so the .pth files in the image's folder count, too.
        line = f"import site; site.addsitedir({image.folder!r})\n"
        (image.site_folder(environment) / "_image.pth").write_text(line, encoding="utf-8")

    def _run(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, output: Path
    ) -> int | None:
        return run_helper(command, env=env, cwd=cwd, output=output, deadline=self.deadline)


def needs_installer(extension: Path) -> bool:
    """Return whether an extension has anything to install, as far as its folder can be read."""
    with suppress(OSError):
        return any((extension / name).is_file() for name in ("install.py", "requirements.txt"))
    return False


def installer_environment(
    settings: Settings, env: Mapping[str, str], environment: Path
) -> dict[str, str]:
    """Return the environment of an installer: that of the WebUI, without anything secret.

    Args:
        settings: of the worker.
        env: environment that all processes share.
        environment: that it installs into.
    """
    common = webui_environment(env, settings)
    kept = {name: value for name, value in common.items() if not _SECRET.search(name)}
    kept.pop("LD_PRELOAD", None)
    scratch = settings.worker_dir / _SCRATCH
    constraints = f"{scratch / CONSTRAINTS} {env.get('PIP_CONSTRAINT', '')}".strip()
    return {
        **launcher_environment(settings.webui_dir, settings.data_dir, base=kept),
        "PATH": f"{environment / 'bin'}{os.pathsep}{env.get('PATH', '')}",
        "VIRTUAL_ENV": str(environment),
        "PIP_CONSTRAINT": constraints,
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_RECORDER_LOG": str(scratch / REQUESTS),
        "GIT_TERMINAL_PROMPT": "0",
    }


def _tool_environment(env: Mapping[str, str]) -> dict[str, str]:
    return {name: env[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR") if name in env}


def _read_from(path: Path, start: int) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""  # without it the conflict is told from one side

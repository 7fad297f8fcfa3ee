"""Extensions: folders below <data-dir>/extensions (upstream's modules/extensions.py).

Without metadata.ini, which none of thirty widespread extensions has, and without the cache of what
was read from git. There are no built-in extensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules import errors, shared

extensions: list[Extension] = []


@dataclass
class Extension:
    """One folder."""

    name: str
    path: str
    enabled: bool
    remote: str | None = None
    git: dict[str, Any] = field(default_factory=dict)

    def list_scripts(self) -> list[str]:
        """Python files of its folder `scripts`, sorted."""
        folder = Path(self.path, "scripts")
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return [str(file) for file in files if file.suffix.lower() == ".py" and file.is_file()]

    def read_info_from_repo(self) -> None:
        """Read remote, branch and commit; the remote stays None where git cannot tell all of it."""
        repo = None
        if not Path(self.path, ".git").exists():
            return
        try:
            from git import Repo  # not there for tests outside an image

            repo = Repo(self.path)
        except Exception:
            message = f"Error reading github repository info from {self.path}"
            errors.report(message, exc_info=True)
        if repo is None or repo.bare:
            return
        try:
            self.remote = next(repo.remote().urls, None)
            commit = repo.head.commit
            self.git = {
                "branch": repo.active_branch.name,
                "commit_hash": commit.hexsha,
                "commit_date": commit.committed_date,
                "version": commit.hexsha[:8],
            }
        except Exception:
            message = f"Failed reading extension data from Git repository ({self.name})"
            errors.report(message, exc_info=True)
            self.remote = None


def names_of_enabled(folder: Path, disabled: list[str]) -> list[str]:
    """Names of the folders that are not disabled, in the file system's order."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name not in disabled]


def list_extensions() -> None:
    """Look for extensions; of two names that differ in case only, the second is dropped."""
    extensions.clear()
    folder = Path(shared.cmd_opts.data_dir) / "extensions"
    seen: dict[str, str] = {}
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if other := seen.get(name.lower()):
            errors.report(
                f'Duplicate canonical name "{name}" found in extensions "{name}" and "{other}". '
                "Former will be discarded."
            )
            continue
        seen[name.lower()] = name
        enabled = name not in shared.opts.disabled_extensions
        extensions.append(Extension(name, str(folder / name), enabled))


def active() -> list[Extension]:
    """Extensions that are not disabled by a flag or an option."""
    off = shared.cmd_opts.disable_all_extensions or shared.cmd_opts.disable_extra_extensions
    if off or shared.opts.disable_all_extensions in ("all", "extra"):
        return []
    return [extension for extension in extensions if extension.enabled]

"""Make repositories of the WebUI and of extensions from folders, and serve them as a git host does.

Those in `a1111/` are the WebUI's, those in `extensions/` are extensions, most of them broken. The
same files give the same commits on every machine, so a config can name them. Any commit can be
fetched by its SHA, as from GitHub. As a program:

    python -m tests.support.git_server --root DIR [--port 8081]
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from scripts.host.console import say
from tests.support.serving import Quiet, Server, running

SOURCES = tuple(Path(__file__).parent / name for name in ("a1111", "extensions"))
WEBUI = "AUTOMATIC1111/stable-diffusion-webui"
RELEASES = ("v1.9.3", "v1.10.1")
"""Tags of the WebUI, oldest first; `repositories` returns the commit of the oldest."""

EXTENSION = "stand-in/sd-webui-standin"
"""The extension that works. It has the repository `EXTENSION-phrases` as a submodule."""

_DATE = "2024-04-22T15:00:00Z"
_NOT_SOURCES = "__pycache__/\n.*_cache/\n"  # what running or checking the stand-in leaves behind
_IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "stand-in"), ("EMAIL", "standin@invalid"), ("DATE", _DATE))
}
# Settings of this machine (signing, hooks, line ends) would change the commits.
_PLAIN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
# Served as by GitHub, whoever made or owns the repositories.
_SERVED = {
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "safe.directory": "*",
}
_SERVED_ENVIRONMENT = {"GIT_CONFIG_COUNT": str(len(_SERVED))} | {
    f"GIT_CONFIG_{part}_{number}": text
    for number, setting in enumerate(_SERVED.items())
    for part, text in zip(("KEY", "VALUE"), setting, strict=True)
}


def repositories(root: Path) -> dict[str, str]:
    """Make the bare repositories below `root`; a second call changes nothing.

    Args:
        root: folder for owner/name.

    Returns:
        The commit of each, by owner/name.
    """
    folders = [path for source in SOURCES for path in source.glob("*/*") if path.is_dir()]
    commits: dict[str, str] = {}
    for folder in sorted(folders, key=lambda path: ((path / ".gitmodules").exists(), path)):
        name = "/".join(folder.parts[-2:])
        commits[name] = _repository(name, folder, root / name, commits)
    return commits


def _repository(name: str, folder: Path, bare: Path, others: Mapping[str, str]) -> str:
    """Make one repository; the WebUI's has a commit for each release, the others have one.

    Args:
        name: owner/name.
        folder: its files.
        bare: where it is made.
        others: commits of the repositories that it may have as submodules, by owner/name.
    """
    _git(bare, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    (bare / "info" / "exclude").write_text(_NOT_SOURCES)
    _git(bare, f"--work-tree={folder}", "add", "--all", ".", cwd=folder)
    for path, commit in _submodules(folder, others).items():
        _git(bare, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    tree = _git(bare, "write-tree")
    commits: list[str] = []
    for release in RELEASES if name == WEBUI else ("first",):
        parents = [f"-p{commit}" for commit in commits[-1:]]
        commits.append(_git(bare, "commit-tree", tree, *parents, "-m", release))
        _git(bare, "tag", "--force", "--annotate", "-m", release, release, commits[-1])
    _git(bare, "update-ref", "refs/heads/main", commits[-1])
    return commits[0]


def _submodules(folder: Path, others: Mapping[str, str]) -> dict[str, str]:
    """Return the commit of each submodule by its path, as `.gitmodules` names them."""
    modules = configparser.ConfigParser()
    modules.read(folder / ".gitmodules")
    return {
        modules[section]["path"]: others[
            modules[section]["url"].removeprefix("https://github.com/").removesuffix(".git")
        ]
        for section in modules.sections()
    }


def _git(bare: Path, *arguments: str, cwd: Path | None = None) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = {**inherited, **_IDENTITY, **_PLAIN}
    command = ["git", f"--git-dir={bare}", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


class _Handler(Quiet):
    """Git's smart protocol, by git's own CGI program (`git help http-backend`)."""

    server: GitServer

    def do_GET(self) -> None:  # noqa: N802 - http.server's own name
        asked = urlsplit(self.path)
        body = self.drain()
        cgi = {
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            # GitHub answers with and without the suffix too.
            "PATH_INFO": re.sub(r"\.git(?=/)", "", asked.path, count=1),
            "QUERY_STRING": asked.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            env={"PATH": os.environ["PATH"], **_PLAIN, **_SERVED_ENVIRONMENT, **cgi},
            capture_output=True,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200" if headers else "500").split()[0])
        self.answer(status, content, headers)

    do_POST = do_GET  # noqa: N815 - http.server's own name


class GitServer(Server):
    """A git host with the repositories below one folder."""

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.root = root.resolve()
        super().__init__((host, port), _Handler)


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the repositories below `root` until the block ends; the host's address."""
    server = GitServer(root)
    with running(server):
        yield server.url


def main() -> None:
    """Make the repositories, print their commits, serve them until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8081)
    options = parser.parse_args()
    for name, commit in repositories(options.root).items():
        say(f"{commit}  {name}")
    server = GitServer(options.root, port=options.port)
    say(server.url)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""Finds commits on git hosts, proves that pinned ones are still there, and reads files at them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import LoadedConfig
from scripts.host.console import warn

_TIMEOUT = 300  # seconds for one answer of a git host


def source_url(loaded: LoadedConfig, repo: str) -> str:
    """The address of a source: owner/name lies under `mirrors.github`, a URL is itself."""
    return repo if "://" in repo else f"{loaded.config.mirrors.github}/{repo}"


def commit_of(loaded: LoadedConfig, repo: str, ref: str) -> str:
    """The commit that a tag, or HEAD, names now.

    Raises:
        UserError: the host cannot be reached, or has no such ref.
    """
    url = source_url(loaded, repo)
    wanted = ["HEAD"] if ref == "HEAD" else [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
    rows = [line.split() for line in _git(loaded, url, "ls-remote", url, *wanted).splitlines()]
    found = {name: commit for commit, name in rows}
    for name in wanted:  # an annotated tag's commit before the tag object itself
        if name in found:
            return found[name]
    raise UserError(
        f"there is no tag {ref}", location=redact_url(url), hint="mend a1111.release in config.yaml"
    )


def prove(loaded: LoadedConfig, repo: str, commit: str, scratch: Path) -> str:
    """Fetch a commit without its trees, which shows that it is still there; returns it.

    Raises:
        UserError: the host cannot be reached, or the commit is gone.
    """
    _fetched(loaded, source_url(loaded, repo), commit, scratch, "--filter=tree:0")
    return commit


def prove_release(loaded: LoadedConfig, repo: str, commit: str, release: str, scratch: Path) -> str:
    """`prove` for the WebUI, with a warning where the release is another commit; returns it.

    Images are tagged by the release, so one that moved without its commit is not what it says.

    Raises:
        UserError: the host cannot be reached, or the commit is gone.
    """
    prove(loaded, repo, commit, scratch)
    try:
        tagged = commit_of(loaded, repo, release)
    except UserError as failure:
        warn(f"{failure}; {commit} is built")
        return commit
    if tagged != commit:
        warn(
            f"a1111.release {release} is {tagged}, but {commit} is built"
            f" - mend a1111.sources.webui.commit in config.yaml, or leave it out"
        )
    return commit


def file_at(loaded: LoadedConfig, repo: str, commit: str, path: str, scratch: Path) -> str:
    """The text of one file of a source at a commit.

    Raises:
        UserError: the host cannot be reached, or has no such commit or file.
    """
    url = source_url(loaded, repo)
    folder = _fetched(loaded, url, commit, scratch)
    return _git(loaded, url, "-C", folder, "show", f"{commit}:{path}")


def _fetched(loaded: LoadedConfig, url: str, commit: str, scratch: Path, *options: str) -> str:
    """A bare repository with one commit and no history, in a folder that goes with `scratch`."""
    folder = tempfile.mkdtemp(dir=scratch)
    _git(loaded, url, "init", "--quiet", "--bare", folder)
    fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", *options)
    _git(loaded, url, "-C", folder, *fetch, url, commit)
    return folder


def _git(loaded: LoadedConfig, url: str, *words: str) -> str:
    try:
        answer = _answer(loaded, *words)
    except FileNotFoundError:
        raise UserError("there is no git command", hint="install git") from None
    except subprocess.TimeoutExpired:
        raise UserError(
            f"no answer within {_TIMEOUT} s", location=redact_url(url), hint="check mirrors.github"
        ) from None
    if answer.returncode != 0:
        last = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"git: {last.removeprefix('fatal: ')}",
            location=redact_url(url),
            code="source-gone",
        )
    return answer.stdout


def _answer(loaded: LoadedConfig, *words: str) -> subprocess.CompletedProcess[str]:
    with certificate_context(loaded.ca_bundle) as folder:
        trust = {"GIT_SSL_CAINFO": str(folder / FILE)} if folder else {}
        return subprocess.run(
            ["git", *words],
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"} | trust,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

"""Look up and fetch commits and files of git repositories on their hosts."""

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.common.run import last_line, run_program
from scripts.host.certificates import FILE, certificate_context
from scripts.host.console import warn

_TIMEOUT = 300  # seconds for one answer of a git host
_FETCH_TIMEOUT = 1800  # seconds for a repository's files
# A connection that moves fewer bytes a second than this, for so many seconds, is given up.
_STALLED = {"GIT_HTTP_LOW_SPEED_LIMIT": "1024", "GIT_HTTP_LOW_SPEED_TIME": "60"}
_ATTEMPTS = 3
_TRANSIENT = re.compile(
    r"early EOF|RPC failed|timed out|hung up|reset by peer|HTTP 429|error: 5\d\d"
)
_PROTOCOLS = "https:http:ssh:file"  # a submodule's address could name a program with others


def source_url(github: str, repo: str) -> str:
    """Return a repository's address: a URL as it is, `owner/name` below `mirrors.github`."""
    return repo if "://" in repo else f"{github}/{repo}"


def _tag_names(ref: str) -> list[str]:
    """Return full names of a tag; an annotated tag's commit before the tag object itself."""
    return [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]


@dataclass(frozen=True)
class GitHosts:
    """Addresses of repositories, and the certificates to trust there.

    Every method raises UserError when the host cannot be reached or lacks what is asked for.

    Args:
        github: address of the repositories named `owner/name`.
        ca_bundle: certificates to trust besides the public ones; None to trust what git trusts.
    """

    github: str
    ca_bundle: Path | None = None

    def find_commit(self, repo: str, ref: str) -> str:
        """Return the commit that a tag, or HEAD, points at now."""
        if found := self._find(repo, ref, _tag_names(ref)):
            return found
        raise UserError(
            f"there is no tag {ref}", location=self._shown(repo), hint="correct a1111.release"
        )

    def find_branch(self, repo: str, ref: str) -> str:
        """Return the commit that a branch or tag, or HEAD, points at now."""
        if found := self._find(repo, ref, [*_tag_names(ref), f"refs/heads/{ref}"]):
            return found
        raise UserError(
            f"there is no branch or tag {ref}",
            location=self._shown(repo),
            hint="give all 40 digits of a commit, or a branch or tag of the repository",
        )

    def _find(self, repo: str, ref: str, names: Sequence[str]) -> str:
        """Return the commit of the first of some full names of a ref; empty if there is none."""
        url = source_url(self.github, repo)
        names = ["HEAD"] if ref == "HEAD" else names
        rows = [line.split() for line in self._git(url, "ls-remote", url, *names).splitlines()]
        commits = {name: commit for commit, name in rows}
        return next((commits[name] for name in names if name in commits), "")

    def _shown(self, repo: str) -> str:
        return redact_url(source_url(self.github, repo))

    def verify_commit(self, repo: str, commit: str, scratch: Path) -> str:
        """Fetch a commit without its trees, which proves that it exists, and return it."""
        self.fetch(source_url(self.github, repo), commit, scratch, "--filter=tree:0")
        return commit

    def verify_release(self, repo: str, commit: str, release: str, scratch: Path) -> str:
        """Verify the WebUI's commit, and warn where the release's tag points at another one.

        Images are tagged by the release, so their tag would be wrong.
        """
        self.verify_commit(repo, commit, scratch)
        try:
            tagged = self.find_commit(repo, release)
        except UserError as error:
            warn(f"{error}; {commit} is built")
            return commit
        if tagged != commit:
            warn(
                f"a1111.release {release} is {tagged}, but {commit} is built"
                " - correct a1111.sources.webui.commit in config.yaml, or leave it out"
            )
        return commit

    def read_file(self, repo: str, commit: str, path: str, scratch: Path) -> str:
        """Return the text of a file at a commit."""
        url = source_url(self.github, repo)
        folder = self.fetch(url, commit, scratch)
        return self._git(url, f"--git-dir={folder}", "show", f"{commit}:{path}")

    def fetch(self, url: str, commit: str, scratch: Path, *options: str) -> Path:
        """Fetch one commit without history into a bare repository below `scratch`.

        A connection that breaks is tried again.
        """
        folder = tempfile.mkdtemp(dir=scratch)
        self._git(url, "init", "--quiet", "--bare", folder)
        fetch = (f"--git-dir={folder}", "fetch", "--quiet", "--depth=1", "--no-tags", *options)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._git(url, *fetch, url, commit, timeout=_FETCH_TIMEOUT)
                break
            except UserError as error:
                if attempt == _ATTEMPTS or not _TRANSIENT.search(error.message):
                    raise
                time.sleep(attempt)
        return Path(folder)

    def _git(self, url: str, *arguments: str, timeout: float = _TIMEOUT) -> str:
        with certificate_context(self.ca_bundle) as folder:
            trust = {"GIT_SSL_CAINFO": str(folder / FILE)} if folder else {}
            done = run_program(
                ["git", *arguments],
                env={
                    "GIT_TERMINAL_PROMPT": "0",
                    "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
                    **_STALLED,
                    **trust,
                },
                timeout=timeout,
                location=redact_url(url),
                timeout_hint="check mirrors.github",
            )
        if done.returncode != 0:
            # The last line says what git lacks, the one before it often why: RPC failed; HTTP 503.
            lines = done.stderr.strip().splitlines()[-2:] or [last_line(done)]
            reason = "; ".join(
                line.removeprefix("fatal: ").removeprefix("error: ") for line in lines
            )
            code = "disk-full" if "No space left on device" in done.stderr else "source-gone"
            raise UserError(f"git: {reason}", location=redact_url(url), code=code)
        return done.stdout

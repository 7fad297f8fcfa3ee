"""Look up commits and files of git repositories on their hosts."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import redact_url
from scripts.common.run import last_line, run_program
from scripts.host.certificates import FILE, certificate_context
from scripts.host.console import warn

_TIMEOUT = 300  # seconds for one answer of a git host


def source_url(github: str, repo: str) -> str:
    """Return a repository's address: a URL as it is, `owner/name` below `mirrors.github`."""
    return repo if "://" in repo else f"{github}/{repo}"


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
        url = source_url(self.github, repo)
        # An annotated tag's commit before the tag object itself.
        names = ["HEAD"] if ref == "HEAD" else [f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"]
        rows = [line.split() for line in self._git(url, "ls-remote", url, *names).splitlines()]
        commits = {name: commit for commit, name in rows}
        for name in names:
            if name in commits:
                return commits[name]
        raise UserError(
            f"there is no tag {ref}", location=redact_url(url), hint="correct a1111.release"
        )

    def verify_commit(self, repo: str, commit: str, scratch: Path) -> str:
        """Fetch a commit without its trees, which proves that it exists, and return it."""
        self._fetch(source_url(self.github, repo), commit, scratch, "--filter=tree:0")
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
        folder = self._fetch(url, commit, scratch)
        return self._git(url, "-C", folder, "show", f"{commit}:{path}")

    def _fetch(self, url: str, commit: str, scratch: Path, *options: str) -> str:
        """Fetch one commit without history into a bare repository below `scratch`."""
        folder = tempfile.mkdtemp(dir=scratch)
        self._git(url, "init", "--quiet", "--bare", folder)
        fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", *options)
        self._git(url, "-C", folder, *fetch, url, commit)
        return folder

    def _git(self, url: str, *arguments: str) -> str:
        with certificate_context(self.ca_bundle) as folder:
            trust = {"GIT_SSL_CAINFO": str(folder / FILE)} if folder else {}
            done = run_program(
                ["git", *arguments],
                env={"GIT_TERMINAL_PROMPT": "0", **trust},
                timeout=_TIMEOUT,
                location=redact_url(url),
                timeout_hint="check mirrors.github",
            )
        if done.returncode != 0:
            reason = last_line(done).removeprefix("fatal: ")
            raise UserError(f"git: {reason}", location=redact_url(url), code="source-gone")
        return done.stdout

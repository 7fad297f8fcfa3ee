"""`mirrors.ca_bundle` is trusted besides the public authorities."""

from __future__ import annotations

import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import load
from scripts.host.git_sources import GitHosts
from tests.support.git_server import GitServer, repositories
from tests.support.serving import running
from tests.support.tls import serve_tls


def test_the_bundle_is_added_to_the_public_authorities(tmp_path: Path) -> None:
    public = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH).cert_store_stats()["x509"]
    with running(GitServer(tmp_path / "git")) as server:
        cert = serve_tls(server, tmp_path)
    with certificate_context(load(define=[f"mirrors.ca_bundle={cert}"]).ca_bundle) as folder:
        assert folder is not None
        trusted = ssl.create_default_context(cafile=str(folder / FILE)).cert_store_stats()["x509"]
    assert trusted == public + 1
    assert not folder.exists()


def test_without_a_bundle_there_is_no_context() -> None:
    with certificate_context(None) as folder:
        assert folder is None


def test_pinning_trusts_a_git_mirrors_own_certificate(tmp_path: Path) -> None:
    commits = repositories(tmp_path / "git")
    with running(GitServer(tmp_path / "git")) as server:
        cert = serve_tls(server, tmp_path)
        mirror = server.url.replace("http:", "https:")
        loaded = load(define=[f"mirrors.github={mirror}/", f"mirrors.ca_bundle={cert}"])
        repo = loaded.config.a1111.sources["blip"].repo
        hosts = GitHosts(loaded.config.mirrors.github, loaded.ca_bundle)
        assert hosts.find_commit(repo, "HEAD") == commits[repo]

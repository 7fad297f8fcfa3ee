"""`mirrors.ca_bundle` adds to the public authorities for programs that take one file of them."""

from __future__ import annotations

import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from scripts.host.certificates import FILE, certificate_context
from scripts.host.config.load import load
from scripts.host.pin.git_sources import commit_of
from tests.support.git_server import GitServer, repositories
from tests.support.serving import running
from tests.support.tls import serve_tls


def test_one_mirrors_certificate_takes_no_trust_from_the_public_sources(tmp_path: Path) -> None:
    public = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH).cert_store_stats()["x509"]
    with running(GitServer(tmp_path / "git")) as server:
        cert = serve_tls(server, tmp_path)
    with certificate_context(load(define=[f"mirrors.ca_bundle={cert}"]).ca_bundle) as folder:
        assert folder is not None
        told = ssl.create_default_context(cafile=str(folder / FILE)).cert_store_stats()["x509"]
    assert told == public + 1
    assert not folder.exists()


def test_without_a_bundle_every_program_trusts_what_it_did_before() -> None:
    with certificate_context(None) as folder:
        assert folder is None


def test_a_git_mirror_with_its_own_certificate_is_trusted_when_pinning(tmp_path: Path) -> None:
    commits = repositories(tmp_path / "git")
    with running(GitServer(tmp_path / "git")) as server:
        cert = serve_tls(server, tmp_path)
        mirror = server.url.replace("http:", "https:")
        loaded = load(define=[f"mirrors.github={mirror}/", f"mirrors.ca_bundle={cert}"])
        repo = loaded.config.a1111.sources["blip"].repo
        assert commit_of(loaded, repo, "HEAD") == commits[repo]

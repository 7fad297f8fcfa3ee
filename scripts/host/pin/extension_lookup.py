"""Look up the commits of an extension and of its submodules on their git hosts."""

from dataclasses import replace
from pathlib import Path

from scripts.common.fetch.spec import no_progress
from scripts.host.config.addresses import apply_mirror
from scripts.host.config.load import LoadedConfig
from scripts.host.config.lock import ResolvedExtension
from scripts.host.extensions.extension_archive import read_facts
from scripts.host.extensions.extensions_context import check_pointers
from scripts.host.extensions.fetch_extensions import fetch_extension
from scripts.host.git_sources import GitHosts


def find_extension(
    loaded: LoadedConfig, extension: ResolvedExtension, hosts: GitHosts, scratch: Path
) -> str:
    """Fetch an extension and its submodules into the store, and return its commit.

    Args:
        loaded: the config.
        extension: with the commit of the config, else it is looked up.
        hosts: asked for each commit, also where the store has the extension.
        scratch: a folder for git.

    Raises:
        UserError: a commit cannot be fetched, or the extension cannot be baked.
    """
    ref, commit = extension.extension.ref, extension.commit
    commit = commit or hosts.find_branch(extension.repo, ref)
    hosts.verify_commit(extension.repo, commit, scratch)
    stored = fetch_extension(loaded, replace(extension, commit=commit), no_progress)
    for submodule in read_facts(stored.file.path).submodules:
        address = apply_mirror(submodule.url, hosts.github)
        hosts.verify_commit(address, submodule.commit, scratch)
    check_pointers(loaded, stored)
    return commit

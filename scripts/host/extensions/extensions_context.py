"""Stage the named build context `extensions`: one folder for each extension, and the manifest.

Modes and times are the same on every machine, so the layer made of it is, too. Each folder has
what the WebUI needs to list it (`/sdapi/v1/extensions` leaves out a folder without a remote, with a
detached HEAD, or without its commit): a `.git` of one branch and one commit object.
"""

import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scripts.common.diagnostics.error import UserError
from scripts.common.extensions.extension_manifest import (
    EXTENSIONS,
    MANIFEST_NAME,
    BakedExtension,
    as_json,
)
from scripts.common.files import shared_lock
from scripts.host.config.load import LoadedConfig
from scripts.host.extensions.extension_archive import (
    read_facts,
    settle_tree,
    unpack,
    write_layer_file,
)
from scripts.host.extensions.fetch_extensions import StoredExtension, public_url
from scripts.host.models.store import CONTEXT_PREFIX

_BRANCH: Final = "main"  # where the config names a commit, and no branch

_CONFIG: Final = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
[remote "origin"]
\turl = {url}
\tfetch = +refs/heads/*:refs/remotes/origin/*
[branch "{branch}"]
\tremote = origin
\tmerge = refs/heads/{branch}
"""


@contextmanager
def staged_extensions(
    loaded: LoadedConfig, extensions: Sequence[StoredExtension]
) -> Iterator[Path]:
    """Lay out extensions as the image will have them, until the block ends.

    Args:
        loaded: names the store, inside which the folder is made, and the models in their folders.
        extensions: result of `fetch_extensions`.

    Raises:
        UserError: a file is only a Git LFS pointer, and no model takes its place.
    """
    parent = loaded.store if os.access(loaded.store, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix=CONTEXT_PREFIX, dir=parent))
    try:
        with shared_lock(folder):
            baked = [_stage(loaded, folder, each) for each in extensions]
            write_layer_file(folder / MANIFEST_NAME, as_json(baked).encode())
            settle_tree(folder)
            yield folder
    finally:
        shutil.rmtree(folder)


def _stage(loaded: LoadedConfig, folder: Path, stored: StoredExtension) -> BakedExtension:
    """Write the folder of one extension; files that models of the config fill are left out."""
    check_pointers(loaded, stored)
    baked = describe(stored)
    target = folder / baked.name
    target.mkdir()
    unpack(stored.file.path, target, _filled_paths(loaded, baked.name))
    _write_git(target / ".git", baked, read_facts(stored.file.path).commit)
    return baked


def _filled_paths(loaded: LoadedConfig, name: str) -> set[str]:
    """Return the paths in an extension's folder that models of the config fill."""
    folder = f"{EXTENSIONS / name}/"
    paths = (path for model in loaded.config.all_models for path in model.filled_paths)
    return {path.removeprefix(folder) for path in paths if path.startswith(folder)}


def describe(stored: StoredExtension) -> BakedExtension:
    """Return an extension as the manifest of the image has it."""
    extension, facts = stored.extension.extension, read_facts(stored.file.path)
    return BakedExtension(
        name=stored.extension.name,
        repo=public_url(extension.repo),
        branch=_BRANCH if extension.pinned_commit else extension.commit or _BRANCH,
        commit=stored.extension.commit,
        submodules={each.path: each.commit for each in facts.submodules},
        install=extension.install,
        routes=extension.routes,
        check=extension.check.declared if extension.check else None,
        licence=extension.licence or "",
    )


def check_pointers(loaded: LoadedConfig, stored: StoredExtension) -> None:
    """Refuse an extension with files that its repository keeps elsewhere.

    Raises:
        UserError: with the names of the files that no model of the config takes the place of.
    """
    extension, filled = stored.extension, _filled_paths(loaded, stored.extension.name)
    pointers = read_facts(stored.file.path).pointers
    if missing := [path for path in pointers if path not in filled]:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" * (len(missing) > 3))
        raise UserError(
            f"extension {extension.name}: the repository has only Git LFS pointers of {shown}",
            location=extension.repo,
            hint="name each file under `models` of the extension, with its address and its path",
        )


def _write_git(git: Path, baked: BakedExtension, commit: bytes) -> None:
    """Write a repository that has one branch, and of it one commit object without its tree."""
    config = _CONFIG.format(url=baked.repo, branch=baked.branch)
    files = {
        "HEAD": f"ref: refs/heads/{baked.branch}\n",
        "config": config,
        f"refs/heads/{baked.branch}": f"{baked.commit}\n",
        "shallow": f"{baked.commit}\n",  # its parents are not there
    }
    for name, text in files.items():
        write_layer_file(git / name, text.encode())
    loose = _deflate(b"commit %d\0%s" % (len(commit), commit))
    write_layer_file(git / "objects" / baked.commit[:2] / baked.commit[2:], loose)


def _deflate(content: bytes) -> bytes:
    """Return a zlib stream (RFC 1950) that is stored, not compressed.

    Each implementation of zlib compresses to other bytes, which would make other layers.
    """
    blocks = [content[at : at + 0xFFFF] for at in range(0, len(content), 0xFFFF)]
    body = b"".join(
        struct.pack("<BHH", index == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for index, block in enumerate(blocks)
    )
    return b"\x78\x01" + body + struct.pack(">I", zlib.adler32(content))

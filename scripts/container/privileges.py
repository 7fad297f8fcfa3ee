"""Becomes an unprivileged user, when the container was started as root."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from scripts.container.log import log


def drop(user: str, own: Iterable[Path]) -> None:
    """Give folders to `user`, then become that user for good; nothing when not root.

    Without the capabilities for it (`--cap-drop ALL`) root is an empty word, and the worker goes
    on as it is, with a warning.

    Args:
        user: name of the account.
        own: folders that the user must own, made where they are missing.
    """
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        log("still-root", level="warning", reason=f"the image has no user {user}")
        return
    try:
        for folder in own:
            give(folder, entry.pw_uid, entry.pw_gid)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        log("still-root", level="warning", reason=f"no capability to change the user: {error}")
        return
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def give(folder: Path, uid: int, gid: int) -> None:
    """Make a user the owner of a folder, and of all below it where the folder was another's.

    Folders that cannot be given (a read-only or foreign file system) are left as they are: whether
    they can be used is found out by using them.

    Raises:
        PermissionError: this process may change no owner at all.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if folder.stat().st_uid == uid:
        return
    os.chown(folder, uid, gid)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), uid, gid, follow_symlinks=False)

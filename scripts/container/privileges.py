"""Becomes an unprivileged user, when the container was started as root."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from scripts.container.log import log


def drop(user: str, *, own: Iterable[Path], enter: Iterable[Path]) -> None:
    """Give folders to `user`, then become that user for good; nothing when not root.

    Without the capabilities for it (`--cap-drop ALL`) root is an empty word, and the worker goes
    on as it is, with a warning.

    Args:
        user: name of the account.
        own: folders that the user must own with all that is below, made where they are missing.
        enter: folders in which the user must be able to make files, made where they are missing.
    """
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        log("still-root", level="warning", reason=f"the image has no user {user}")
        return
    for folder in own:
        _give(folder, entry, below=True)
    for folder in enter:
        _give(folder, entry, below=False)
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        log("still-root", level="warning", reason=f"no capability to change the user: {error}")
        return
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def become_owner(folder: Path) -> None:
    """Become a folder's owner when running as root, whose files would be in the owner's way.

    Does nothing without the folder, or without the capability to change the user.
    """
    if os.geteuid() == 0 and folder.exists():
        owner = folder.stat()
        with contextlib.suppress(PermissionError):
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)


def _give(folder: Path, user: pwd.struct_passwd, *, below: bool) -> None:
    """Make a user the owner of a folder, and of all `below` it where the folder was another's.

    What cannot be given (read-only, a network file system that distrusts root) is left as it is:
    whether it can be used is found out by using it.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == user.pw_uid:
            return
        os.chown(folder, user.pw_uid, user.pw_gid)
        for parent, folders, files in os.walk(folder) if below else ():
            for name in (*folders, *files):
                os.chown(Path(parent, name), user.pw_uid, user.pw_gid, follow_symlinks=False)

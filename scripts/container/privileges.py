"""Change to an unprivileged user when the container was started as root."""

import contextlib
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

from scripts.container.log import log


def drop(user: str, *, own: Iterable[Path], write: Iterable[Path]) -> None:
    """Give folders to `user`, then become that user for good; do nothing when not root.

    Without the capabilities for it (`--cap-drop ALL`), the user cannot be changed inside this
    container: the worker goes on as it is, with a warning.

    Args:
        user: name of the account.
        own: folders that the user must own with all content, created where they are missing.
        write: folders in which the user must be able to create files, created likewise.
    """
    if os.geteuid() != 0:
        return
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        log("still-root", level="warning", reason=f"the image has no user {user}")
        return
    for folder in own:
        _give(folder, account, with_content=True)
    for folder in write:
        _give(folder, account, with_content=False)
    try:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    except PermissionError as error:
        log("still-root", level="warning", reason=f"no capability to change the user: {error}")
        return
    os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)


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


def _give(folder: Path, account: pwd.struct_passwd, *, with_content: bool) -> None:
    """Make an account the owner of a folder, and of its content if the folder was another's.

    Errors (read-only, a network file system that distrusts root) are ignored here: whether a
    folder can be used is tested later, by writing to it.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.stat().st_uid == account.pw_uid:
            return
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent, folders, files in os.walk(folder) if with_content else ():
            for name in (*folders, *files):
                os.chown(Path(parent, name), account.pw_uid, account.pw_gid, follow_symlinks=False)

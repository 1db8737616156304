"""Whose a file is: who has made it beforehand can read it, and hold it, whatever root does with it later."""

from __future__ import annotations

import errno
import os
import stat


def require_plain(descriptor: int, name: str) -> None:
    """Raises OSError for what is no plain file, of root or of the user whom the process runs as."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, f"{name} is no plain file: expected one, or nothing there")
    require_own(descriptor, name)


def require_own(descriptor: int, name: str) -> None:
    """Raises OSError for what belongs to another user than root, or the one whom the process runs as."""
    owner = os.fstat(descriptor).st_uid
    if owner not in (0, os.geteuid()):
        message = f"{name} belongs to user {owner}: expected root's, or of the user who runs qfilter"
        raise OSError(errno.EINVAL, message)

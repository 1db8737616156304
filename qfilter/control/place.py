"""Where the socket of a service is, and how it comes there: one for each network namespace, for its owner alone."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qfilter.errors import ControlError, PrivilegeError
from qfilter.firewall.locking import HeldError, hold, namespace_path

_CREDENTIALS = struct.Struct("iII")
"""struct ucred of linux/socket.h: process, user, group."""
_WAITING = 64
"""Connections that the kernel holds until they are accepted."""


def default_path() -> Path:
    """The socket of the service that runs in the thread's network namespace."""
    return namespace_path("sock")


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at a path, with mode 0600; nothing is left of it at the end.

    What a dead process left there is replaced. Raises ControlError when another process serves there, when something
    else than a socket stands there, and when others could put something in its place; PrivilegeError where only root
    may write.
    """
    with ExitStack() as made:
        try:
            _judge_folder(path)
            made.enter_context(hold(path.with_name(f"{path.name}.lock")))
            _remove_stale(path)
            listener = made.enter_context(_bind(path))
        except HeldError as holder:
            message = f"process {holder} serves there already: end it, or take another place with --control"
            raise ControlError(f"{path}: {message}") from None
        except PermissionError:
            raise PrivilegeError(f"{path}: expected root, or another place with --control") from None
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror or error}") from None
        made.callback(path.unlink, missing_ok=True)
        yield listener


def trusted(peer: socket.socket) -> bool:
    """Whether the process at the other end, when it connected or listened, was root's or belongs to our own user."""
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(data)
    return user in (0, os.geteuid())


def _judge_folder(path: Path) -> None:
    """Whoever can write to the folder can take the socket away and put one of their own there, unless it is sticky."""
    status = path.parent.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise ControlError(
            f"{path.parent} belongs to user {status.st_uid}: expected root, or the user who runs qfilter"
        )
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(status.st_mode)
        raise ControlError(f"{path.parent} can be written by others (mode {mode:04o}): expected 0755 or 1777")


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # bind() gives the file the mode of the socket (net/unix/af_unix.c): at no moment is it open to others.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(_WAITING)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """What stands there belongs to nobody, for we hold the lock."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path}: expected a socket or nothing there")
    path.unlink()

"""One process at a time looks after the kernel rules of a network namespace: the undoing of another would take them."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from qfilter.errors import FirewallError, PrivilegeError
from qfilter.firewall import tools
from qfilter.ownership import require_plain

_NAMESPACE = Path("/proc/thread-self/ns/net")
_FOLDER = Path("/run")
_PAUSE = 0.05


class HeldError(Exception):
    """Another process has the lock; its number."""


def namespace_path(ending: str) -> Path:
    """Where a file of the thread's network namespace stands: not in one that others can write to."""
    return _FOLDER / f"qfilter-{_NAMESPACE.stat().st_ino}.{ending}"


@contextmanager
def hold(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a file, which a process that dies lets go of; it is made with mode 0600 and removed at the end.

    No link is followed, and nothing that another user put there is taken. Raises HeldError when another process still
    holds it after `patience` seconds, and OSError.
    """
    descriptor = _take_within(path, patience)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def lock() -> Iterator[None]:
    """Hold the lock of the thread's network namespace, which a process that dies lets go of.

    Raises FirewallError with the holder when there is one, PrivilegeError where only root may write.
    """
    tools.require_privilege("changing kernel rules")
    path = _path()
    with ExitStack() as holding:
        try:
            holding.enter_context(hold(path))
        except HeldError as held:
            message = f"process {held} looks after the kernel rules of this network namespace: end it first"
            raise FirewallError("kernel rules", message) from None
        except PermissionError:
            raise PrivilegeError(f"{path}: expected root, who alone can lock the kernel rules") from None
        except OSError as error:
            raise FirewallError(f"lock {path}", error.strerror or str(error)) from None
        yield


@contextmanager
def lock_or_reason(patience: float = 2.0) -> Iterator[str | None]:
    """As `lock`, but where it cannot be had within `patience` seconds, go on without: why is given, in a sentence.

    An installation or a removal is over by then; a process that serves is not. A /run that is full or cannot be
    written must not lock anybody out either.
    """
    tools.require_privilege("changing kernel rules")
    path = _path()
    with ExitStack() as holding:
        reason: str | None = None
        try:
            holding.enter_context(hold(path, patience))
        except HeldError as held:
            reason = f"process {held} still serves, and has nothing to judge now: end it, or SIGUSR1 for its rules"
        except OSError as error:
            why = error.strerror or str(error)
            reason = f"without the lock {path}, for: {why}; rules that are installed at this moment may come to stand"
        yield reason


def _path() -> Path:
    # A file that only root can open, and not the namespace's own: no other user can keep the rules from us.
    return namespace_path("lock")


def _take_within(path: Path, seconds: float) -> int:
    until = time.monotonic() + seconds
    while True:
        try:
            return _take(path)
        except HeldError:
            if time.monotonic() >= until:
                raise
        time.sleep(_PAUSE)


def _take(path: Path) -> int:
    while True:
        # In a sticky folder somebody else's FIFO may stand there: to open or read it must not block.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            require_plain(descriptor, path.name)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode("ascii"))
                return descriptor
        except BlockingIOError:
            written = os.read(descriptor, 16)
            os.close(descriptor)
            raise HeldError(written.decode("ascii") if written.isdigit() else "another") from None
        except BaseException:
            os.close(descriptor)
            raise
        # Its last holder removed it between our opening and our locking it.
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False

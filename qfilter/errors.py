"""Every exception that qfilter raises on purpose, where in a file it points, and what to make of all others.

    QFilterError
    ├── PolicyError        the policy does not load; `diagnostics` holds every mistake of every file
    ├── PacketError        what a caller described is not a packet (bad hex, unknown hook, a field out of range)
    ├── CaptureError       a capture file is damaged or of an unknown format
    ├── UnsupportedError   this machine, kernel or build cannot do what the policy or the command asks
    ├── PrivilegeError     root or CAP_NET_ADMIN is missing
    ├── QueueError         the kernel's queue refused an operation: `operation`, `errno`
    │   └── QueueTakenError    another process holds the queue: `number`, `port_id`, `holder`
    ├── FirewallError      installing or removing kernel rules failed: `command`, `output`
    └── ControlError       a running service cannot be asked, or refused what it was asked

A subclass exists only where a caller acts differently on it. Messages are lower case, quote the value and say
what was expected.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file. Lines and columns count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One mistake in a policy: what is wrong, where, and what was expected there."""

    kind: str
    """A stable slug for tools, such as `unknown-field`; the list is `qfilter.policy.kinds`."""
    at: Position
    message: str
    severity: str = "error"
    """`error` or `warning`; a warning does not keep a policy from loading."""
    source: str = ""
    """The text of the line, without its end."""
    width: int = 1
    """How many characters from `at.column` on the caret underlines."""
    suggestion: str | None = None
    """A word that was probably meant, such as `dport`."""
    included_from: tuple[Position, ...] = ()
    """The include entries that led to this file, innermost first."""

    def __str__(self) -> str:
        hint = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{self.at}: {self.severity}: {self.message}{hint}"


class QFilterError(Exception):
    """The base of everything that qfilter raises on purpose."""


class PolicyError(QFilterError):
    """A policy that must not be put in force."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))


class PacketError(QFilterError):
    """A description that no packet can be made from."""


class CaptureError(QFilterError):
    """A capture that cannot be read on; packets before the damage have been yielded."""


class UnsupportedError(QFilterError):
    """Something that this machine, kernel or build cannot do."""


class PrivilegeError(QFilterError):
    """The process lacks root or CAP_NET_ADMIN."""


class QueueError(QFilterError):
    """The kernel refused an operation on a queue. `errno` is the kernel's, or 0 where it gave none."""

    def __init__(self, operation: str, message: str, errno: int = 0) -> None:
        self.operation = operation
        self.errno = errno
        super().__init__(f"{operation}: {message}")


class QueueTakenError(QueueError):
    """Another socket is bound to the queue."""

    def __init__(self, number: int, port_id: int, holder: str) -> None:
        self.number = number
        self.port_id = port_id
        self.holder = holder
        super().__init__(f"bind queue {number}", f"already held by {holder} (netlink port {port_id})")


class FirewallError(QFilterError):
    """A firewall tool refused what was asked of it."""

    def __init__(self, command: str, output: str) -> None:
        self.command = command
        self.output = output.strip()
        super().__init__(f"{command}: {self.output or 'failed without a message'}")


class ControlError(QFilterError):
    """No service answers at a socket, or it refused, or what came over it is no message."""


def is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C, of which Python tells the main thread alone. In others foreign code raised it."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def words_of(error: BaseException) -> str:
    """What an exception of foreign code says. Never raises, whatever the exception does."""
    try:
        return str(error)
    except BaseException as worse:
        if is_interrupt(worse):
            raise
        return "it has no words"

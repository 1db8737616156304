"""The other end of the socket: what commands ask a running service."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from qfilter.control.codec import MAX_ANSWER, decode_answer, encode_request
from qfilter.control.messages import (
    Answer,
    Change,
    Changed,
    ChangeSet,
    Elements,
    ElementState,
    GetElements,
    GetSets,
    GetStats,
    GetStatus,
    Refused,
    Reload,
    Reloaded,
    Request,
    Sets,
    Stats,
    Status,
)
from qfilter.control.place import default_path, trusted
from qfilter.errors import ControlError, PolicyError, PrivilegeError

TIMEOUT = 10.0
"""Seconds until an answer must come."""
RELOAD_TIMEOUT = 600.0
"""The same for a reload, which reads files and runs the policy's tests."""

_PIECE = 1 << 16
_BATCH = 1 << 17
"""Characters of elements in one request: far below MAX_REQUEST, also when each is written as six."""

_Wanted = TypeVar("_Wanted", bound=Answer)


class ControlClient:
    """A connection to the service at a path, or to that of this network namespace.

    Raises PrivilegeError and ControlError, for a service that is not there and for what it refuses; PolicyError for a
    policy that it refuses.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout: float = TIMEOUT) -> None:
        self._path = default_path() if path is None else Path(path)
        self._timeout = timeout
        self._received = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise

    def reload(self, policy: str | os.PathLike[str] | None = None) -> Reloaded:
        """Put a policy in force: of the file that is in force, read again, or of another one."""
        path = None if policy is None else os.path.abspath(policy)  # noqa: PTH100 - a link stays a link, it may be moved
        return self._ask(Reload(path=path), Reloaded, RELOAD_TIMEOUT)

    def status(self) -> Status:
        """What is in force."""
        return self._ask(GetStatus(), Status)

    def stats(self) -> Stats:
        """What was counted."""
        return self._ask(GetStats(), Stats)

    def sets(self) -> Sets:
        """Which sets there are."""
        return self._ask(GetSets(), Sets)

    def elements(self, name: str) -> Iterator[ElementState]:
        """What is in a set, of one moment; what was added comes first."""
        self._send(GetElements(set=name))
        more = True
        while more:
            page = self._receive(Elements, self._timeout)
            yield from page.elements
            more = page.more

    def add(self, name: str, elements: Iterable[str], timeout: float | None = None) -> Changed:
        """Add elements to a dynamic set, or start their time anew; `timeout` in seconds, None takes the set's own."""
        return self._change(name, Change.ADD, elements, timeout)

    def delete(self, name: str, elements: Iterable[str]) -> Changed:
        """Take out elements that were added."""
        return self._change(name, Change.DELETE, elements, None)

    def flush(self, name: str) -> Changed:
        """Take out all that was added."""
        return self._ask(ChangeSet(set=name, change=Change.FLUSH), Changed)

    def close(self) -> None:
        """A second call does nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> None:
        # With a time-out of Python's a full backlog fails at once; the kernel's own waits for room.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _time(self._timeout))
        try:
            self._socket.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"{self._path}: {self._missing()}: expected a running `qfilter run`") from None
        except PermissionError:
            raise PrivilegeError(f"{self._path}: expected root, or the user who runs the service") from None
        except OSError as error:
            raise self._gone(error) from None
        self._socket.settimeout(self._timeout)
        if not trusted(self._socket):
            raise ControlError(f"{self._path}: another user listens there: expected root's service or your own")

    def _missing(self) -> str:
        """What is wrong with a path where nobody listens."""
        if not self._path.parent.is_dir():
            return "no such folder"
        if self._path.exists() and not self._path.is_socket():
            return "not a socket"
        return "no service answers there"

    def _change(self, name: str, change: Change, elements: Iterable[str], timeout: float | None) -> Changed:
        done = Changed(count=0)
        for batch in _batches(elements):
            part = self._ask(ChangeSet(set=name, change=change, elements=batch, timeout=timeout), Changed)
            done = Changed(
                count=done.count + part.count,
                refused=done.refused + part.refused,
                absent=(*done.absent, *part.absent),
            )
        return done

    def _ask(self, request: Request, wanted: type[_Wanted], timeout: float | None = None) -> _Wanted:
        self._send(request)
        return self._receive(wanted, timeout or self._timeout)

    def _send(self, request: Request) -> None:
        try:
            self._socket.sendall(encode_request(request))
        except OSError as error:
            raise self._gone(error) from None

    def _receive(self, wanted: type[_Wanted], timeout: float) -> _Wanted:
        answer = decode_answer(self._line(timeout))
        if isinstance(answer, Refused):
            raise PolicyError(answer.diagnostics) if answer.diagnostics else ControlError(answer.problem)
        if not isinstance(answer, wanted):
            raise ControlError(f"{self._path}: answer {answer.kind!r}: expected {wanted.__name__}")
        return answer

    def _line(self, timeout: float) -> bytes:
        self._socket.settimeout(timeout)
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > MAX_ANSWER:
                raise ControlError(f"{self._path}: answer of more than {MAX_ANSWER} bytes: expected an end of line")
            try:
                piece = self._socket.recv(_PIECE)
            except OSError as error:
                raise self._gone(error) from None
            if not piece:
                raise ControlError(f"{self._path}: the service ended the connection: expected an answer")
            self._received += piece
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line

    def _gone(self, error: OSError) -> ControlError:
        if isinstance(error, TimeoutError | BlockingIOError):
            return ControlError(f"{self._path}: the service does not answer: is it stopped, or busy?")
        return ControlError(f"{self._path}: {error.strerror or error}")


def _time(seconds: float) -> bytes:
    """A struct timeval."""
    whole, rest = divmod(seconds, 1)
    return struct.pack("ll", int(whole), int(rest * 1_000_000))


def _batches(elements: Iterable[str]) -> Iterator[tuple[str, ...]]:
    batch: list[str] = []
    size = 0
    for element in elements:
        if batch and size + len(element) > _BATCH:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(element)
        size += len(element) + 4  # quotes, a comma and a space
    yield tuple(batch)

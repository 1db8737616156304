"""The socket's server: a thread that answers one request after another, and that no client can hold up.

Everything it does with a client is non-blocking and has an end: a client that sends nothing, half a request or garbage,
or that does not read, loses its connection, and when there are too many, the one that was silent longest does.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from qfilter.control.codec import MAX_REQUEST, decode_request, encode_answer
from qfilter.control.messages import (
    Answer,
    ChangeSet,
    Controlled,
    Elements,
    ElementState,
    GetElements,
    GetSets,
    GetStats,
    GetStatus,
    Refused,
    Reload,
    Request,
)
from qfilter.control.place import trusted
from qfilter.errors import ControlError

MAX_CLIENTS = 16
PATIENCE = 5.0
"""Seconds that a client has to send a whole request, and then to take each part of the answer."""
PAGE = 1_000
"""Elements of a set in one answer: the work between two looks at the other clients."""

_PIECE = 1 << 16
_RETRY = 0.1
"""Seconds until the next try after no descriptor was left for a connection."""


class ControlServer:
    """Answers for a service in a thread of its own, from now until `close`. `listener` stays its owner's to close."""

    def __init__(self, listener: socket.socket, controlled: Controlled, *, patience: float = PATIENCE) -> None:
        self._listener = listener
        self._controlled = controlled
        self._patience = patience
        self._clients: dict[int, _Client] = {}
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="qfilter-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends after the request that is being answered. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for client in tuple(self._clients.values()):
            self._drop(client)
        self._selector.close()
        os.close(self._wake)

    def _run(self) -> None:
        while not self._closing:
            for key, events in self._selector.select(self._patience):
                if key.data is not None:
                    self._serve(key.data, events)
                elif key.fileobj is self._listener:
                    self._accept()
            self._expire()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left, and the connection that waits would wake us again at once.
            time.sleep(_RETRY)
            return
        if not trusted(connection):
            connection.close()
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._drop(min(self._clients.values(), key=lambda client: client.since))
        client = _Client(connection, time.monotonic())
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _serve(self, client: _Client, events: int) -> None:
        if client.connection.fileno() < 0:  # dropped for another one, in the same round
            return
        began = time.monotonic()
        try:
            if events & selectors.EVENT_READ:
                client.receive()
            client.go_on(self._answers)
        except (OSError, EOFError):
            self._drop(client)
            return
        spent = time.monotonic() - began
        for each in self._clients.values():  # what a request takes is not the others' time
            each.since += spent
        wanted = selectors.EVENT_WRITE if client.has_work else selectors.EVENT_READ
        self._selector.modify(client.connection, wanted, client)

    def _expire(self) -> None:
        now = time.monotonic()
        for client in tuple(self._clients.values()):
            if now - client.since >= self._patience:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.connection.fileno()]
        self._selector.unregister(client.connection)
        client.connection.close()

    def _answers(self, line: bytes) -> Iterator[bytes]:
        """The lines of an answer. Never raises."""
        try:
            for answer in self._asked(decode_request(line)):
                yield encode_answer(answer)
        except ControlError as error:
            yield encode_answer(Refused(problem=str(error)))
        except Exception as fault:  # noqa: BLE001 - whoever asked is told, and the next one is answered
            yield encode_answer(Refused(problem=f"a fault of qfilter's own: {type(fault).__name__}: {fault}"))

    def _asked(self, request: Request) -> Iterator[Answer]:
        service = self._controlled
        match request:
            case Reload(path=path):
                yield service.reload(path)
            case GetStatus():
                yield service.status()
            case GetStats():
                yield service.stats()
            case GetSets():
                yield service.sets()
            case GetElements(set=name):
                found = service.elements(name)
                if isinstance(found, Refused):
                    yield found
                else:
                    yield from _pages(found)
            case ChangeSet():
                yield service.change_set(request)


def _pages(elements: Iterator[ElementState]) -> Iterator[Elements]:
    page, more = tuple(islice(elements, PAGE)), True
    while more:
        following = tuple(islice(elements, PAGE))
        more = bool(following)
        yield Elements(elements=page, more=more)
        page = following


class _Client:
    """One connection: a request is read, its answer is written, and so on. Never blocks."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        connection.setblocking(False)
        self.since = now
        """Since when this client could have done what we wait for."""
        self._received = bytearray()
        self._lines: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._is_last = False

    @property
    def has_work(self) -> bool:
        """Whether something is to be done without waiting for a request."""
        return self._lines is not None or b"\n" in self._received

    def receive(self) -> None:
        """Take what came. Raises OSError, and EOFError at the end of the connection."""
        with suppress(BlockingIOError):
            piece = self.connection.recv(_PIECE)
            if not piece:
                raise EOFError
            self._received += piece

    def go_on(self, answers: Callable[[bytes], Iterator[bytes]]) -> None:
        """Begin with the next request, or write one more part of the answer. OSError, EOFError: it is over."""
        if self._lines is None:
            line = self._next_line()
            if line is None:
                return
            self._lines = answers(line)
        if not self._rest:
            self._rest = memoryview(next(self._lines, b""))
        if not self._rest:
            if self._is_last:
                raise EOFError
            self._lines = None
            self.since = time.monotonic()
            return
        with suppress(BlockingIOError):
            self._rest = self._rest[self.connection.send(self._rest) :]
        if not self._rest:
            self.since = time.monotonic()

    def _next_line(self) -> bytes | None:
        """A whole request. One that is too long is the last: nobody can tell where the next one begins."""
        line, end, rest = self._received.partition(b"\n")
        if not end and len(line) <= MAX_REQUEST:
            return None
        self._is_last = not end
        self._received = rest
        return bytes(line + end)

"""The socket's server: a thread that answers one request after another, and that no client and no reload can hold up.

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
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue

from qfilter.control.codec import MAX_REQUEST, decode_request, encode_answer
from qfilter.control.messages import (
    STOPS,
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
    Reloaded,
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
        self._told: SimpleQueue[tuple[_Client, Answer]] = SimpleQueue()
        """Answers that came from other threads, and for whom."""
        self._waking = threading.Lock()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="qfilter-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends after the request that is being answered. Who waits for a reload is told that it will not come.

        A second call does nothing.
        """
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._take_told()
        for client in tuple(self._clients.values()):
            if client.is_waiting:
                self._go_on(client, STOPS)
        for client in tuple(self._clients.values()):
            self._drop(client)
        self._selector.close()
        with self._waking:
            os.close(self._wake)
            self._wake = -1

    def _run(self) -> None:
        while not self._closing:
            for key, events in self._selector.select(self._patience):
                if key.data is not None:
                    self._serve(key.data, events)
                elif key.fileobj is self._listener:
                    self._accept()
                elif not self._closing:
                    os.eventfd_read(self._wake)
                    self._take_told()
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
            self._drop(min(self._clients.values(), key=lambda client: (client.is_waiting, client.since)))
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
            client.go_on(partial(self._answers, client))
        except (OSError, EOFError):
            self._drop(client)
            return
        spent = time.monotonic() - began
        for each in self._clients.values():  # what a request takes is not the others' time
            each.since += spent
        self._watch(client)

    def _watch(self, client: _Client) -> None:
        """One that waits for an answer from elsewhere is not looked at before that is here."""
        registered = client.connection in self._selector.get_map()
        if client.is_waiting:
            if registered:
                self._selector.unregister(client.connection)
            return
        wanted = selectors.EVENT_WRITE if client.has_work else selectors.EVENT_READ
        (self._selector.modify if registered else self._selector.register)(client.connection, wanted, client)

    def _expire(self) -> None:
        now = time.monotonic()
        for client in tuple(self._clients.values()):
            if not client.is_waiting and now - client.since >= self._patience:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.connection.fileno()]
        if client.connection in self._selector.get_map():
            self._selector.unregister(client.connection)
        client.connection.close()

    def _tell(self, client: _Client, answer: Reloaded | Refused) -> None:
        """In any thread."""
        self._told.put((client, answer))
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _take_told(self) -> None:
        while True:
            try:
                client, answer = self._told.get_nowait()
            except Empty:
                return
            # It may have been dropped meanwhile, or told before.
            if client.is_waiting and client.connection.fileno() >= 0:
                self._go_on(client, answer)

    def _go_on(self, client: _Client, answer: Answer) -> None:
        """The answer that a client waits for is here."""
        client.answer(_encoded(lambda: iter((answer,))))
        self._serve(client, 0)

    def _answers(self, client: _Client, line: bytes) -> Iterator[bytes]:
        """The lines of an answer, none when it comes later. Never raises."""
        return _encoded(lambda: self._asked(client, decode_request(line)))

    def _asked(self, client: _Client, request: Request) -> Iterator[Answer]:
        service = self._controlled
        match request:
            case Reload(path=path):
                service.ask_reload(path, partial(self._tell, client))
                client.is_waiting = True
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


def _encoded(answers: Callable[[], Iterator[Answer]]) -> Iterator[bytes]:
    try:
        for answer in answers():
            yield encode_answer(answer)
    except ControlError as error:
        yield encode_answer(Refused(problem=str(error)))
    except Exception as fault:  # noqa: BLE001 - whoever asked is told, and the next one is answered
        yield encode_answer(Refused.by_fault(fault))


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
        self.is_waiting = False
        """For an answer that another thread will tell."""
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

    def answer(self, lines: Iterator[bytes]) -> None:
        """What it waited for."""
        self.is_waiting = False
        self._lines = lines
        self.since = time.monotonic()

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
            if self.is_waiting:
                self._lines = None
                return
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

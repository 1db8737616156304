"""Small servers for the lab. Their sockets live in a namespace, their threads in this process."""

from __future__ import annotations

import hashlib
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, ThreadingTCPServer
from types import TracebackType
from typing import Self

from tests.lab import dns
from tests.lab.namespace import Host, Namespace, force_receive_buffer
from tests.lab.process import patient

_RECEIVE_BUFFER = 32 << 20
_QUIET = patient(0.05)


@dataclass(frozen=True, slots=True)
class Datagram:
    """What came, and from whom."""

    source: str
    port: int
    payload: bytes


class UdpServer:
    """A UDP service on one port of a host, both families. It remembers every datagram, and answers when told how.

    Started by `with`; `answer` returns the reply, or None for silence.
    """

    def __init__(self, host: Host, port: int, answer: Callable[[bytes], bytes | None] = lambda _: None) -> None:
        self.received: list[Datagram] = []
        self._answer = answer
        self._grown = threading.Condition()
        self._sockets = [_udp_listener(host, socket.AF_INET, port), _udp_listener(host, socket.AF_INET6, port)]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def collect(self, expected: int, timeout: float = 5.0) -> int:
        """How many datagrams came: waits for `expected`, then for surplus until nothing came for 50 ms."""
        deadline = time.monotonic() + patient(timeout)
        with self._grown:
            self._grown.wait_for(lambda: len(self.received) >= expected, patient(timeout))
            while self._grown.wait(_QUIET) and time.monotonic() < deadline:
                continue
            return len(self.received)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        for each in (self._woken, *self._sockets):
            each.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._woken, *self._sockets):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        return
                    assert isinstance(key.fileobj, socket.socket)
                    self._take(key.fileobj)

    def _take(self, listener: socket.socket) -> None:
        # An ICMP error for an earlier reply comes up in the next call; a reply may be forbidden: UDP promises nothing.
        with suppress(OSError):
            payload, sender = listener.recvfrom(65_535)
            with self._grown:
                self.received.append(Datagram(sender[0], sender[1], payload))
                self._grown.notify_all()
            reply = self._answer(payload)
            if reply is not None:
                listener.sendto(reply, sender)


def udp_counter(host: Host, port: int) -> UdpServer:
    """Counts and never answers."""
    return UdpServer(host, port)


def udp_echo(host: Host, port: int) -> UdpServer:
    """Answers every datagram with itself."""
    return UdpServer(host, port, answer=lambda payload: payload)


def dns_server(host: Host, records: dict[str, list[str]], port: int = 53) -> UdpServer:
    """Answers A and AAAA questions from `records`, a name's addresses of both families, and NXDOMAIN otherwise."""
    return UdpServer(host, port, answer=lambda question: dns.answer(question, records))


@contextmanager
def tcp_server(host: Namespace, *ports: int) -> Iterator[None]:
    """Accepts on these ports, both families, and closes."""
    with _listening(host, BaseRequestHandler, *ports):
        yield


@contextmanager
def http_server(host: Namespace, *ports: int, body: str = "hello from the server\n") -> Iterator[None]:
    """Answers every GET on these ports, both families, with `body`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the lab's output belongs to the packets."""

    with _listening(host, Handler, *ports):
        yield


@dataclass(frozen=True, slots=True)
class Digests:
    """What came to a `digesting` server."""

    port: int
    found: list[str]
    """The SHA-256 of each connection's content, in hexadecimal, once it has come whole."""


@contextmanager
def digesting(host: Host, family: int, *, port: int = 0, protocol: int = 0) -> Iterator[Digests]:
    """Takes one connection after the other, by TCP or another protocol of streams; port 0 is any that is free."""
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    wake, woken = socket.socketpair()
    with wake, woken, host.new_socket(kind, socket.SOCK_STREAM, protocol) as listener:
        listener.bind((host.address(family), port))
        listener.listen()
        digests = Digests(listener.getsockname()[1], [])

        def serve() -> None:
            while listener in select.select([listener, woken], [], [])[0]:
                connection, _ = listener.accept()
                with connection:
                    digest = hashlib.sha256()
                    while piece := connection.recv(1 << 20):
                        digest.update(piece)
                    digests.found.append(digest.hexdigest())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield digests
        finally:
            wake.close()
            thread.join()


class _TcpServer(ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a connection that the firewall cuts is what the lab is for."""


@contextmanager
def _listening(host: Namespace, handler: type[BaseRequestHandler], *ports: int) -> Iterator[None]:
    with ExitStack() as stack:
        for port in ports:
            with host.entered():
                server = stack.enter_context(_TcpServer(("::", port), handler))
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(server.shutdown)
        yield


def _udp_listener(host: Host, family: socket.AddressFamily, port: int) -> socket.socket:
    listener = host.new_socket(family, socket.SOCK_DGRAM)
    force_receive_buffer(listener, _RECEIVE_BUFFER)
    listener.bind((host.ipv4 if family == socket.AF_INET else host.ipv6, port))
    return listener

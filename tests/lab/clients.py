"""Real clients. Each crosses the lab once and says what it saw.

Where a packet is expected to be dropped, pass `timeout=QUICK`. The others wait longer: a SYN whose ICMP error came
while connect() still held the socket is only answered when TCP sends it again, after a second.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.lab import dns
from tests.lab.namespace import Namespace
from tests.lab.process import patient
from tests.lab.scan import PortState, syn_scan

QUICK = patient(0.3)
"""Seconds to wait for an answer that must not come."""

PATIENT = patient(2.5)


class Outcome(StrEnum):
    """What a client saw."""

    ANSWERED = "answered"
    CONNECTED = "connected"
    REFUSED = "refused"
    """A TCP reset, or ICMP port unreachable."""
    RESET = "reset"
    """A connection that stood was cut."""
    UNREACHABLE = "unreachable"
    """Any other ICMP error: `detail` has it."""
    FORBIDDEN = "forbidden"
    """The client's own host refused to send."""
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Seen:
    """One client's result."""

    outcome: Outcome
    detail: str = ""
    """The errno's name, or the tool's own words."""
    answer: str = ""
    """What came back: a body, an echo, addresses."""
    count: int = 0
    """How many answers came."""

    def __str__(self) -> str:
        return f"{self.outcome} ({self.detail})" if self.detail else f"{self.outcome}"


_BY_ERRNO = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.EACCES: Outcome.UNREACHABLE,  # ICMPv6 "administratively prohibited"
    errno.ENOPROTOOPT: Outcome.UNREACHABLE,  # ICMP "protocol unreachable"
    errno.EPROTO: Outcome.UNREACHABLE,
    errno.EPERM: Outcome.FORBIDDEN,
}

_ALL_ERRORS = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),  # IP_RECVERR
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),  # IPV6_RECVERR
}

_PING_ERROR = re.compile(r"^From \S+ icmp_seq=\d+ (?P<text>.+)$", re.MULTILINE)
_PING_RECEIVED = re.compile(r"(\d+) received")
_CURL_ERROR = re.compile(r"^\* .*(?:failed|fail for \S+): (?P<text>.+)$", re.MULTILINE)
_CURL_OUTCOMES = {28: Outcome.TIMED_OUT, 52: Outcome.RESET, 56: Outcome.RESET}


def ping(source: Namespace, target: str, *, count: int = 1, timeout: float = PATIENT) -> Seen:
    """ICMP or ICMPv6 echo by iputils' ping; ANSWERED when any of `count` requests was, see `Seen.count`."""
    done = source.run(
        "ping", "-n", "-c", f"{count}", "-i", "0.01", "-W", f"{timeout}", target, check=False, timeout=count + 30
    )
    said = done.stdout + done.stderr
    received = _PING_RECEIVED.search(said)
    if received and int(received[1]):
        return Seen(Outcome.ANSWERED, count=int(received[1]))
    if error := _PING_ERROR.search(said):
        return Seen(Outcome.UNREACHABLE, error["text"])
    if "Operation not permitted" in said:
        return Seen(Outcome.FORBIDDEN, "EPERM")
    if received:
        return Seen(Outcome.TIMED_OUT)
    return Seen(Outcome.UNREACHABLE, said.strip())


def tcp_connect(source: Namespace, target: str, port: int, *, timeout: float = PATIENT, bind: str = "") -> Seen:
    """The three-way handshake, and nothing sent after it."""
    with source.new_socket(_family(target), socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(timeout)
            if bind:
                connection.bind((bind, 0))
            connection.connect((target, port))
        except OSError as error:
            return _failed(error)
        return Seen(Outcome.CONNECTED)


def http_get(source: Namespace, target: str, port: int = 80, *, path: str = "/", timeout: float = PATIENT) -> Seen:
    """A GET by hand; CONNECTED with the body as answer, and as detail the status when it is not 200."""
    with source.new_socket(_family(target), socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(timeout)
            connection.connect((target, port))
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())
            reply = b"".join(iter(lambda: connection.recv(65_536), b""))
        except OSError as error:
            return _failed(error)
    head, _, body = reply.partition(b"\r\n\r\n")
    status = head.decode("latin-1").partition("\r\n")[0].partition(" ")[2]
    return Seen(Outcome.CONNECTED, "" if status.startswith("200 ") else status, body.decode(errors="replace"))


def curl(source: Namespace, target: str, port: int = 80, *, path: str = "/", timeout: float = PATIENT) -> Seen:
    """The same by the real curl, which knows no proxy here."""
    host = f"[{target}]" if ":" in target else target
    done = source.run(
        *("curl", "--silent", "--verbose", "--noproxy", "*", "--max-time", f"{timeout}", f"http://{host}:{port}{path}"),
        check=False,
        timeout=timeout + 15,
    )
    if done.returncode == 0:
        return Seen(Outcome.CONNECTED, answer=done.stdout)
    if done.returncode in _CURL_OUTCOMES:
        return Seen(_CURL_OUTCOMES[done.returncode])
    error = _CURL_ERROR.search(done.stderr)
    text = error["text"] if error else done.stderr.strip()[-300:]
    return Seen(Outcome.REFUSED if text == "Connection refused" else Outcome.UNREACHABLE, text)


def udp_ask(
    source: Namespace, target: str, port: int, payload: bytes = b"ping", *, timeout: float = PATIENT, bind: str = ""
) -> Seen:
    """One datagram and its answer."""
    reply = _exchange(source, target, port, payload, timeout, bind)
    if isinstance(reply, Seen):
        return reply
    return Seen(Outcome.ANSWERED, answer=reply.decode(errors="replace"), count=1)


def resolve(source: Namespace, server: str, name: str, family: int = 4, *, timeout: float = PATIENT) -> Seen:
    """A DNS look-up of A (4) or AAAA (6) records; the addresses are the answer, one a line, `count` of them."""
    reply = _exchange(source, server, 53, dns.question(name, family, number=0x5146), timeout, "")
    if isinstance(reply, Seen):
        return reply
    found = dns.addresses(reply)
    return Seen(Outcome.ANSWERED, answer="\n".join(found), count=len(found))


def send_datagrams(
    source: Namespace,
    target: str,
    port: int,
    count: int,
    *,
    sources: Sequence[str] = ("",),
    source_ports: Iterable[int] = (0,),
    size: int = 18,
) -> int:
    """Sends exactly `count` datagrams of `size` bytes, by turns from each source address and port; returns how many.

    Each one begins with its own number. `sources` are addresses of the namespace (`Host.more_addresses`), "" is its
    usual one; port 0 is any. Raises OSError when the kernel refuses one, so what is returned was sent.
    """
    opened: list[socket.socket] = []
    try:
        for address, local in itertools.product(sources, tuple(source_ports)):
            opened.append(source.new_socket(_family(target), socket.SOCK_DGRAM))
            opened[-1].bind((address, local))
        for number, sender in zip(range(count), itertools.cycle(opened), strict=False):
            sender.sendto(f"{number:010d}".encode().ljust(size, b".")[:size], (target, port))
    finally:
        for each in opened:
            each.close()
    return count


def scan(source: Namespace, target: str, ports: Sequence[int], *, timeout: float = QUICK) -> dict[int, PortState]:
    """A SYN scan by scapy, which builds its own packets; it gives up on what did not answer after `timeout`."""
    return source.call(syn_scan, target, list(ports), timeout)


def _exchange(source: Namespace, target: str, port: int, payload: bytes, timeout: float, bind: str) -> bytes | Seen:
    family = _family(target)
    with source.new_socket(family, socket.SOCK_DGRAM) as talk:
        try:
            talk.settimeout(timeout)
            if bind:
                talk.bind((bind, 0))
            # Connected, and asking for all of them: the kernel hands even "soft" ICMP errors to this socket.
            talk.setsockopt(*_ALL_ERRORS[family], 1)
            talk.connect((target, port))
            talk.send(payload)
            return talk.recv(65_535)
        except OSError as error:
            return _failed(error)


def _failed(error: OSError) -> Seen:
    if isinstance(error, TimeoutError):
        return Seen(Outcome.TIMED_OUT)
    if error.errno not in _BY_ERRNO:
        raise error
    return Seen(_BY_ERRNO[error.errno], errno.errorcode[error.errno])


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6

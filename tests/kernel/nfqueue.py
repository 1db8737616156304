"""What the tests of NFQUEUE share: rules by hand, judges, and a queue that is served."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qfilter.model.packet import Packet
from qfilter.model.verdict import ACCEPT, DROP, Decision, Reason, Verdict
from qfilter.queues.base import Judge, PacketQueue
from qfilter.queues.nfqueue import NfQueue
from tests.lab.namespace import Namespace

PORT = 9
PATIENT = 10.0

iptables = {4: "iptables-legacy", 6: "ip6tables-legacy"}


def rules(host: Namespace, *lines: str, families: tuple[int, ...] = (4, 6)) -> None:
    """Appends rules such as `FORWARD -p udp -j NFQUEUE` to the filter table."""
    for family in families:
        for line in lines:
            host.run(iptables[family], "-A", *line.split())


@contextmanager
def opened(host: Namespace, number: int = 0, **settings: object) -> Iterator[NfQueue]:
    """A queue of the namespace, closed at the end."""
    settings.setdefault("failure", {})
    with host.entered():
        queue = NfQueue.open(number, **settings)  # type: ignore[arg-type]  # each test says what it needs
    try:
        yield queue
    finally:
        queue.close()


def always(decision: Decision, mark: int | None = None) -> Judge:
    return lambda _: Verdict(decision, Reason.RULE, mark=mark)


accepting = always(ACCEPT)
dropping = always(DROP)


class Remembering:
    """A judge that keeps what it saw."""

    def __init__(self, decide: Callable[[Packet], Verdict] = accepting) -> None:
        self.seen: list[Packet] = []
        self._decide = decide

    def __call__(self, packet: Packet) -> Verdict:
        self.seen.append(packet)
        return self._decide(packet)

    @property
    def only(self) -> Packet:
        (packet,) = self.seen
        return packet


def judge_all(queue: PacketQueue, judge: Judge, expected: int) -> int:
    """Waits until `expected` packets have been judged, then takes what else is there; returns how many came."""
    count = 0
    while count < expected and select.select([queue], [], [], PATIENT)[0]:
        count += queue.receive(judge)
    while more := queue.receive(judge):
        count += more
    return count


@contextmanager
def served(queue: PacketQueue, judge: Judge) -> Iterator[None]:
    """Judges in a thread of its own while the `with` lasts."""
    wake, woken = socket.socketpair()

    def serve() -> None:
        while woken.fileno() not in select.select([queue.fileno(), woken.fileno()], [], [])[0]:
            queue.receive(judge)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        wake.close()
        thread.join()
        woken.close()


def number_of(packet: Packet) -> int:
    """The number that `send_datagrams` wrote into a datagram."""
    header = {4: 20, 6: 40}[packet.data[0] >> 4]
    return int(packet.data[header + 8 : header + 18])

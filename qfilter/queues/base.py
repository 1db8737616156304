"""What every queue is to the daemon: a descriptor to wait on, and a call that judges what is waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from qfilter.model.packet import Packet
from qfilter.model.verdict import Verdict

Judge = Callable[[Packet], Verdict]
"""Gives a packet its verdict. When it raises, the queue gives the packet the outcome of the cause `error`."""


@dataclass(slots=True)
class QueueCounters:
    """What one queue has seen since it was opened. Plain numbers; the thread that receives is the only one to write.

    A packet counts once, by the verdict that the kernel took: `accepted` to `requeued` add up to `received` less what
    is in `errors` for verdicts.
    """

    received: int = 0
    """Packets read from the queue, truncated ones included."""
    accepted: int = 0
    dropped: int = 0
    rejected: int = 0
    """Handed back to the kernel's REJECT through the mark."""
    repeated: int = 0
    requeued: int = 0
    """Sent to another queue."""
    failed: int = 0
    """Packets whose verdict came from a failure in the queue's own work: the judge raised, the message was cut."""
    truncated: int = 0
    """Messages that did not fit in the buffer. A copy range that cuts a packet is not one."""
    overruns: int = 0
    """Times that the kernel said it lost packets because nobody read them in time (ENOBUFS)."""
    collisions: int = 0
    """Packets that arrived with a hand-back bit set in their mark; dropped."""
    errors: Counter[int] = field(default_factory=Counter)
    """Verdicts that the kernel did not take, and other errors that it reported, by errno (2 is ENOENT: unknown id)."""


class PacketQueue(Protocol):
    """One open queue. Not safe to share between threads, except `close` after the last `receive`."""

    number: int
    """The queue's number, 0 to 65535."""
    counters: QueueCounters

    def fileno(self) -> int:
        """The descriptor to wait on for reading; the same until `close`."""

    def receive(self, judge: Judge) -> int:
        """Judge what is waiting, without blocking, and return how many packets that were.

        Bounded, so that one full queue does not starve the others: when it returns, more may be waiting. Whatever a
        packet or the kernel does is counted and never raised; KeyboardInterrupt and SystemExit pass through.
        Raises QueueError only when the queue itself is gone.
        """

    def close(self) -> None:
        """Let go of the queue; the kernel drops what is still waiting in it. A second call does nothing."""

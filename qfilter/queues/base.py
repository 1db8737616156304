"""What every queue is to the daemon: a descriptor to wait on, and a call that judges what is waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from qfilter.fields import Family
from qfilter.model.packet import Packet
from qfilter.model.verdict import Decision, Kind, Reason, Verdict

Judge = Callable[[Packet], Verdict]
"""Gives a packet its verdict. When it raises, the queue gives the packet the outcome of the cause `error`."""

Tell = Callable[[Packet | None, Verdict], None]
"""Told of a packet that the queue decided; None where not more than its id could be read."""

Made = TypeVar("Made")


@dataclass(slots=True)
class QueueCounters:
    """What one queue has seen since it was opened. Plain numbers; the thread that receives is the only one to write."""

    received: int = 0
    """Packets read from the queue, truncated ones included."""
    accepted: int = 0
    dropped: int = 0
    rejected: int = 0
    """Handed back to the kernel's REJECT through the mark."""
    requeued: int = 0
    """Sent to another queue."""
    repeated: int = 0
    """Sent once more through the chains of their hook."""
    failures: Counter[Reason] = field(default_factory=Counter)
    """Packets that the queue itself decided, by cause, without or in spite of the judge; in the verdicts above too."""
    last_failure: str = ""
    """The last of those causes in words, such as the exception that a judge raised."""
    truncated: int = 0
    """Messages that did not fit in the buffer. A copy range that cuts a packet is not one."""
    lost: int = 0
    """Packets that found the socket full and never came here: dropped, or let through where the queue fails open."""
    errors: Counter[int] = field(default_factory=Counter)
    """What the kernel complained about, by errno: ENOENT is a verdict for a packet that it no longer holds."""
    panics: int = 0
    """Calls of the native judge that failed by a fault of its own; their packets are in `failures` too."""
    late_answers: int = 0
    """Answers of scapy and predicates to packets that had their verdict before, such as after the deadline."""

    def count(self, kind: Kind) -> None:
        """One more packet with that kind of verdict."""
        match kind:
            case Kind.ACCEPT:
                self.accepted += 1
            case Kind.DROP:
                self.dropped += 1
            case Kind.REJECT:
                self.rejected += 1
            case Kind.QUEUE:
                self.requeued += 1
            case Kind.REPEAT:
                self.repeated += 1

    def fail(self, reason: Reason, words: str) -> None:
        """One more packet that the queue itself decided."""
        self.failures[reason] += 1
        self.last_failure = words


class OwnVerdicts:
    """The queue's failures, by `outcomes`, the policy's.

    `tell` may be set by whoever records them; what it raises is the record's loss alone.
    """

    def __init__(self, counters: QueueCounters, outcomes: Mapping[Reason, Kind]) -> None:
        self._counters = counters
        self.outcomes = outcomes
        self.tell: Tell | None = None

    def attempt(self, work: Callable[[], Made], packet: Packet | None = None) -> Made | Kind:
        """What `work` makes; or, when it raises, the outcome of the cause `error` for the packet."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  one packet's failure must not end the others' verdicts
            return self.fail(Reason.ERROR, f"{type(error).__name__}: {error}", packet)

    def fail(self, reason: Reason, words: str, packet: Packet | None = None) -> Kind:
        """The configured outcome of a cause, drop where it has none."""
        accepts = self.outcomes.get(reason) == Kind.ACCEPT
        return self._decide(Kind.ACCEPT if accepts else Kind.DROP, reason, words, packet)

    def drop(self, words: str, packet: Packet | None = None) -> Kind:
        """Drop for an `error` whatever its outcome is: what was to be rejected or marked must not pass as it is."""
        return self._decide(Kind.DROP, Reason.ERROR, words, packet)

    def _decide(self, kind: Kind, reason: Reason, words: str, packet: Packet | None) -> Kind:
        self._counters.fail(reason, words)
        self._counters.count(kind)
        if self.tell is not None:
            try:
                self.tell(packet, Verdict(Decision(kind), reason, detail=words))
            except Exception as error:  # noqa: BLE001  the verdict stands, whether or not it can be told
                self._counters.last_failure = f"{words}; not recorded: {error}"
        return kind


class CountedQueue(Protocol):
    """One open queue, as whoever counts sees it."""

    @property
    def number(self) -> int:
        """The queue's number, 0 to 65535."""

    @property
    def family(self) -> Family | None:
        """The only family whose packets come here; None for both."""

    @property
    def counters(self) -> QueueCounters:
        """What it has seen since it was opened."""


class PacketQueue(CountedQueue, Protocol):
    """One open queue that hands packets over. Not safe to share between threads."""

    warnings: tuple[str, ...]
    """What the operator should know: settings that the kernel did not take as wanted, a sentence each."""

    @property
    def own(self) -> OwnVerdicts:
        """What the queue decides itself."""

    def fileno(self) -> int:
        """The descriptor to wait on for reading; the same until `close`."""

    def receive(self, judge: Judge) -> int:
        """Judge what is waiting, without blocking, and return how many packets that were.

        Bounded, so that one full queue does not starve the others: when it returns, more may be waiting. Whatever a
        packet, a judge or the kernel does is counted and not raised, but KeyboardInterrupt and SystemExit pass
        through. Raises QueueError only when the queue itself is gone.
        """

    def configure(
        self, *, copy_range: int, length: int, fail_open: bool, conntrack: bool, socket_buffer: int | None
    ) -> None:
        """Ask the kernel for other settings, as when the queue was opened. Packets wait meanwhile, none is lost.

        What was queued before was copied by the old settings; the next `receive` judges all of it. Raises QueueError,
        and UnsupportedError for what this kernel cannot do.
        """

    def answer_by(self, *, mark_mask: int, failure: Mapping[Reason, Kind]) -> None:
        """From the next packet on, reject by these bits of the mark, and fail by these outcomes."""

    def close(self) -> None:
        """Let go of the queue; the kernel drops what is still waiting in it. A second call does nothing."""

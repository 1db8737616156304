"""What the queues lost: it is in no verdict, and becomes an event when it has grown."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from qfilter.errors import PrivilegeError, QueueError
from qfilter.netlink.queues import BoundQueue, bound_queues
from qfilter.queues.base import CountedQueue

LOOK_EVERY = 1.0
"""Seconds between two looks."""

Losses = tuple[Mapping[str, object], ...]
"""Per queue, as the `queue` event says it."""


class LossWatch:
    """Looks at the queues of a service again and again, and tells of each that has lost more."""

    def __init__(
        self,
        queues: Sequence[CountedQueue],
        tell: Callable[[Mapping[str, object]], None],
        also: Callable[[], None],
    ) -> None:
        """`also` is called at every look."""
        self._queues = queues
        self._tell = tell
        self._also = also
        self._looked = 0.0
        self._bound: Mapping[int, BoundQueue] = {}
        """The kernel's table, when it was last read."""
        self.losses = _lost(queues, {})
        """When they were last looked at."""

    def look(self) -> None:
        """Look, unless that was a moment ago. Raises QueueError for a queue that is not ours any more."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        self._also()
        bound = _bound()
        if bound is None:
            return
        for queue in self._queues:
            if queue.family is None and queue.number not in bound:
                raise QueueError(f"serve queue {queue.number}", "it is no longer bound")
        self._bound = bound
        losses = _lost(self._queues, bound)
        for each, before in zip(losses, self.losses, strict=True):
            if each != before:
                self._tell(each)
        self.losses = losses

    def look_last(self) -> None:
        """At the end: of a queue that is let go already, what the kernel last said."""
        self._bound = {**self._bound, **(_bound() or {})}
        self.losses = _lost(self._queues, self._bound)


def _bound() -> Mapping[int, BoundQueue] | None:
    """The kernel's table of queues; None while no descriptor is left to read it, and for whoever is not root.

    Verdicts need neither, and go on.
    """
    try:
        return bound_queues()
    except (OSError, PrivilegeError):
        return None


def _lost(queues: Sequence[CountedQueue], bound: Mapping[int, BoundQueue]) -> Losses:
    """Per queue: what the kernel dropped or let past, and what the queue decided or cut itself. In packets."""
    return tuple(_row(queue, bound.get(queue.number) if queue.family is None else None) for queue in queues)


def _row(queue: CountedQueue, row: BoundQueue | None) -> Mapping[str, object]:
    counters = queue.counters
    return {
        "queue": queue.number,
        "family": queue.family,
        "queue_full": row.dropped_full if row else 0,
        # The queue sees a gap when the next packet comes, the kernel at once; what it lets past it does not count.
        "socket_full": max(counters.lost, row.dropped_socket if row else 0),
        "cut": counters.truncated,
        "errors": {os.strerror(number): count for number, count in sorted(counters.errors.items())},
        "failures": {str(cause): count for cause, count in sorted(counters.failures.items())},
        "last_failure": counters.last_failure,
        "panics": counters.panics,
        "late_answers": counters.late_answers,
    }

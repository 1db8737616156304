"""A bounded queue in front of a sink: verdicts never wait for whoever reads the events."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

AGAIN = 1.0
"""Seconds until a loss that the sink would not take is told again, while nothing else comes."""

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)


class Sink(Protocol[Item_contra]):
    """Where items go. All but `cancel` is called by one thread at a time, and may block or raise OSError."""

    def write(self, item: Item_contra) -> None:
        """Write all of the item, or raise."""

    def reopen(self) -> None:
        """Open what the sink writes to anew, after a file was moved away; when that fails, go on with the old."""

    def cancel(self) -> None:
        """From another thread: a write that waits, and every later one, fails at once."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a writer's items."""

    written: int
    lost: int
    error: str
    """Why the last item that the sink refused was lost; empty when it refused none."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Item]):
    item: Item | None
    """None where only losses are to be told, or to reopen is asked for."""
    dropped_before: int = 0
    """Items that found the queue full, or never came to it, since the entry before."""
    reopens: bool = False


class Writer(Generic[Item]):
    """Takes items at once and writes them in a thread of its own, in their order.

    When the queue is full the newest item is dropped and counted. `lost` makes an item that tells how many were lost;
    it is written in the place of the gap, as soon as the sink takes something again, also when nothing else comes.
    """

    def __init__(
        self,
        sink: Sink[Item],
        *,
        capacity: int = 4_096,
        lost: Callable[[int], Item] | None = None,
        name: str = "qfilter-events",
    ) -> None:
        self._sink = sink
        self._capacity = capacity
        self._lost_item = lost
        self._changed = threading.Condition()  # re-entrant: a signal's handler may ask to reopen in the middle of a put
        self._entries: deque[_Entry[Item]] = deque()
        self._in_hand = False
        self._closing = False
        self._dropped = 0
        self._gap = 0
        self._failed = 0
        self._unreported = 0
        self._written = 0
        self._error = ""
        # A thread stuck in a write that nothing can end must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item. Never blocks, never raises."""
        with self._changed:
            if self._closing or len(self._entries) >= self._capacity:
                self._dropped += 1
                self._gap += 1
                return
            self._entries.append(_Entry(item, self._gap))
            self._gap = 0
            self._changed.notify()

    def miss(self, count: int) -> None:
        """So many items were lost on the way here: that is told, and counted by who lost them. Never blocks."""
        with self._changed:
            self._gap += count
            self._changed.notify()

    def reopen(self) -> None:
        """Ask the sink to reopen, after the items that wait now. Never blocks, never raises."""
        with self._changed:
            self._entries.append(_Entry(None, reopens=True))
            self._changed.notify()

    @property
    def outcome(self) -> Outcome:
        """What became of the items so far; those that wait are in neither number."""
        return Outcome(self._written, self._dropped + self._failed, self._error)

    def close(self, timeout: float = 2.0, grace: float = 1.0) -> Outcome:
        """Write what waits, for at most `timeout` seconds; the rest is lost. A second call does nothing more.

        After `grace` more seconds a write that did not come back when it was cancelled is left behind.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._sink.cancel()
            self._thread.join(grace)
        if self._thread.is_alive():
            with self._changed:
                waiting = sum(entry.item is not None for entry in self._entries) + self._in_hand
            return Outcome(self._written, self._dropped + self._failed + waiting, "the write never came back")
        self._sink.close()
        return self.outcome

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            self._unreported += entry.dropped_before
            if entry.reopens:
                self._attempt(self._sink.reopen)
                continue
            self._report()
            if entry.item is None:
                continue
            if self._attempt(partial(self._sink.write, entry.item)):
                self._written += 1
            else:
                self._failed += 1
                self._unreported += 1
        with self._changed:
            self._unreported += self._gap
            self._gap = 0
        self._report()

    def _next(self) -> _Entry[Item] | None:
        with self._changed:
            self._in_hand = False
            while not self._entries and not self._closing:
                untold = self._unreported and self._lost_item is not None
                if self._gap or not self._changed.wait(AGAIN if untold else None):
                    gap, self._gap = self._gap, 0
                    return _Entry(None, gap)
            if not self._entries:
                return None
            entry = self._entries.popleft()
            self._in_hand = entry.item is not None
            return entry

    def _report(self) -> None:
        if not self._unreported or self._lost_item is None:
            return
        if self._attempt(partial(self._sink.write, self._lost_item(self._unreported))):
            self._unreported = 0

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever an item does to the sink, the next one has its turn
            self._error = str(error) or type(error).__name__
            return False
        return True

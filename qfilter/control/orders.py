"""Work that a signal asks for: done soon, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from queue import Empty, SimpleQueue


class _Order(Enum):
    WORK = auto()
    END = auto()


class Orders:
    """Does one kind of work when it is ordered, until `close`. What is ordered while it waits is done once."""

    def __init__(self, work: Callable[[], object], *, name: str) -> None:
        """`work` must not raise."""
        self._work = work
        # Not an Event: its lock may be held by the very thread that a signal interrupts.
        self._orders: SimpleQueue[_Order] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self) -> None:
        """Order the work. Safe in a signal handler."""
        self._orders.put(_Order.WORK)

    def close(self) -> None:
        """Ends after work that has begun. A second call does nothing."""
        self._orders.put(_Order.END)
        self._thread.join()

    def _run(self) -> None:
        while _Order.END not in self._next():
            self._work()

    def _next(self) -> set[_Order]:
        """What is ordered, waiting for something to be."""
        given = {self._orders.get()}
        while True:
            try:
                given.add(self._orders.get_nowait())
            except Empty:
                return given

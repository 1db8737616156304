"""Whether the kernel rules are still what they should be: others flush tables and put their jumps before ours.

What differs is told, and repaired only when somebody asks: two tools that repair against each other never end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from queue import Empty, SimpleQueue

from qfilter.firewall.apply import differences, install
from qfilter.firewall.looking import installed
from qfilter.model.plan import KernelRules

EVERY = 10.0
"""Seconds between two looks, unless a caller says otherwise."""


class _Order(Enum):
    REPAIR = auto()
    END = auto()


class Watch:
    """Compares every few seconds, in a thread of its own of the caller's network namespace, until `close`.

    `tell` gets the differences, a sentence each, when they are others than before or a repair was asked for;
    none when all is as it should be.
    """

    def __init__(self, rules: KernelRules, tell: Callable[[tuple[str, ...]], None], *, every: float = EVERY) -> None:
        self._rules = rules
        self._tell = tell
        self._every = every
        self._told: tuple[str, ...] = ()
        # Not an Event: its lock may be held by the very thread that a signal interrupts.
        self._orders: SimpleQueue[_Order] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="qfilter-rules", daemon=True)
        self._thread.start()

    def repair(self) -> None:
        """Ask for the rules to be installed again. Safe in a signal handler."""
        self._orders.put(_Order.REPAIR)

    def close(self) -> None:
        """Ends after a look that has begun. A second call does nothing."""
        self._orders.put(_Order.END)
        self._thread.join()

    def _run(self) -> None:
        while (order := self._next()) is not _Order.END:
            asked = order is _Order.REPAIR
            found = self._look(repair=asked)
            if asked or found != self._told:
                self._told = found
                self._tell(found)

    def _next(self) -> _Order | None:
        """None when it is time to look."""
        try:
            return self._orders.get(timeout=self._every)
        except Empty:
            return None

    def _look(self, *, repair: bool) -> tuple[str, ...]:
        try:
            if repair:
                install(self._rules)
            return differences(self._rules, installed())
        except Exception as error:  # noqa: BLE001 - what keeps it from looking now is told, and it looks again
            return (f"cannot be read: {error}",)

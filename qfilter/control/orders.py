"""Work that a signal or a client asks for: done soon, in a thread of its own, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_Order = TypeVar("_Order")


class Orders(Generic[_Order]):
    """Does what is ordered, in order. Of orders that are equal and wait, one is done."""

    def __init__(self, work: Callable[[_Order], object], *, name: str) -> None:
        """`work` must not raise."""
        self._work = work
        # Not a Condition: its lock may be held by the very thread that a signal interrupts. None is the end.
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self, order: _Order) -> None:
        """Order some work. Safe in a signal handler. After `close` it may be done at once, in this thread."""
        self._orders.put(order)
        if self._over:
            self._do(None)

    def close(self) -> None:
        """Ends the thread after what is ordered; does not wait for that. A second call does nothing."""
        self._orders.put(None)

    def _run(self) -> None:
        while self._do(self._orders.get()):
            pass
        self._over = True
        # Whoever gave an order before that has left it here; whoever gives one later does it.
        self._do(None)

    def _do(self, first: _Order | None) -> bool:
        """That, and what else is ordered now; whether it goes on."""
        given = list(dict.fromkeys([first, *self._waiting()]))
        for order in given:
            if order is not None:
                self._work(order)
        return None not in given

    def _waiting(self) -> list[_Order | None]:
        found: list[_Order | None] = []
        while True:
            try:
                found.append(self._orders.get_nowait())
            except Empty:
                return found

"""Answers on their way to the queues: several at once, for each time costs the queue's thread a turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

Answer = tuple[int, int, bool | int, str]
"""Queue, ticket, and what is true: true, false, or the number of a cause with its words."""

TOGETHER = 0.001
"""Seconds that an answer waits for others at most."""


class Answers:
    """Kept only while more are to come, and never by a question that takes long: a thread of its own keeps the time.

    Its methods are safe in any thread.
    """

    def __init__(self, give: Callable[[list[Answer]], None]) -> None:
        """`give` hands answers to the queues; it is called in one thread at a time."""
        self._give = give
        self._kept: list[Answer] = []
        self._due = 0.0
        self._begun = threading.Condition()

    def add(self, answers: Sequence[Answer], *, more: bool) -> None:
        """Take answers in. They are given at once, with those that were kept, unless there are `more` questions now."""
        with self._begun:
            first = not self._kept
            if first:
                self._due = time.monotonic() + TOGETHER
            self._kept += answers
            if not more or time.monotonic() >= self._due:
                self._flush()
            elif first:
                self._begun.notify()

    def give_overdue(self, patience: float) -> None:
        """Wait `patience` seconds until answers are kept, and give them when it is time, if nobody else has."""
        with self._begun:
            if not self._begun.wait_for(lambda: self._kept, patience):
                return
        time.sleep(TOGETHER)
        with self._begun:
            # Others may have come instead, a moment ago; the next call is about those.
            if time.monotonic() >= self._due:
                self._flush()

    def _flush(self) -> None:
        kept, self._kept = self._kept, []
        if kept:
            self._give(kept)

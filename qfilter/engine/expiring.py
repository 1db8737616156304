"""Keys that are forgotten when their time comes, in bounded memory and without a look at all of them."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView
from hashlib import blake2b
from heapq import heapify, heappop, heappush
from itertools import count

_LONGEST = 64
"""Bytes of a text that is kept as it is. Of a longer one its digest is: a payload is as cheap as an address."""


class Expiring:
    """Keys, each with the instant at which it is due, or None for never. The caller says what unit instants have."""

    def __init__(self) -> None:
        self._due: dict[Hashable, int | None] = {}
        # A key's first entry may be early, when its time was put off, but never late. `_queued` says which one counts.
        self._heap: list[tuple[int, int, Hashable]] = []
        self._queued: dict[Hashable, int] = {}
        self._order = count()

    def __len__(self) -> int:
        """How many keys are here, those that are due but not purged yet among them."""
        return len(self._due)

    def __contains__(self, key: Hashable) -> bool:
        return _small(key) in self._due

    def due(self, key: Hashable) -> int | None:
        """When a key is due; None for never, and for a key that is not here."""
        return self._due.get(_small(key))

    def put(self, key: Hashable, due: int | None) -> None:
        """Add a key, or give it another time."""
        small = _small(key)
        self._due[small] = due
        self._enqueue(small, due)

    def drop(self, key: Hashable) -> None:
        """Forget a key; nothing happens when it is not here."""
        small = _small(key)
        self._due.pop(small, None)
        self._queued.pop(small, None)
        self._tidy()

    def items(self) -> ItemsView[Hashable, int | None]:
        """Keys and when they are due, in the order in which they came. Of a long text ("digest", BLAKE2b) is here."""
        return self._due.items()

    def clear(self) -> None:
        """Forget every key."""
        self._due.clear()
        self._queued.clear()
        self._heap.clear()

    def purge(self, now: int) -> None:
        """Forget every key that is due."""
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heappop(self._heap)
            if self._queued.get(key) != at:
                continue
            del self._queued[key]
            due = self._due[key]
            if due is not None and due <= now:
                del self._due[key]
            else:
                self._enqueue(key, due)

    def _enqueue(self, key: Hashable, due: int | None) -> None:
        if due is not None and due < self._queued.get(key, due + 1):
            self._queued[key] = due
            heappush(self._heap, (due, next(self._order), key))
            self._tidy()

    def _tidy(self) -> None:
        """Entries that no longer count are at most as many as those that do, however often keys come and go."""
        if len(self._heap) > 2 * len(self._queued) + 64:
            self._heap = [(at, next(self._order), key) for key, at in self._queued.items()]
            heapify(self._heap)


def _small(key: Hashable) -> Hashable:
    if isinstance(key, tuple):
        return tuple(map(_small, key))
    if isinstance(key, bytes) and len(key) > _LONGEST:
        return ("digest", blake2b(key, digest_size=32).digest())
    return key

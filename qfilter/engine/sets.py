"""Sets while packets flow: the elements of the file, and those that actions added."""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush
from ipaddress import IPv4Address, IPv6Address
from itertools import count

from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition
from qfilter.model.report import SetTally

_TOP = 1 << 128

Element = int | bytes | IPv4Address | IPv6Address


def in_ranges(ranges: tuple[tuple[int, int], ...], number: int) -> bool:
    """Whether sorted inclusive ranges hold a number."""
    index = bisect_right(ranges, (number, _TOP)) - 1
    return index >= 0 and number <= ranges[index][1]


def in_addresses(addresses: Addresses, address: IPv4Address | IPv6Address) -> bool:
    """Whether the ranges of an address's family hold it."""
    return in_ranges(addresses.v4 if address.version == 4 else addresses.v6, int(address))


class LiveSet:
    """One set of the policy. Added elements time out; those of the file do not and cannot be deleted by actions."""

    def __init__(self, definition: SetDefinition) -> None:
        self._definition = definition
        self._expiry: dict[Element, int | None] = {}
        self._queue: list[tuple[int, int, Element]] = []
        self._queued: set[Element] = set()
        self._order = count()
        self._added = 0
        self._refused = 0

    def contains(self, element: Element, now: int) -> bool:
        """Whether the set holds an element at `now` (monotonic nanoseconds)."""
        if self._static(element):
            return True
        if element not in self._expiry:
            return False
        expiry = self._expiry[element]
        return expiry is None or now < expiry

    def add(self, element: Element, timeout: float | None, now: int) -> None:
        """Add an element, or start its time anew. Refused and counted when the set is full."""
        if self._static(element):
            return
        self._expire(now)
        if element not in self._expiry and len(self._expiry) >= self._definition.size:
            self._refused += 1
            return
        seconds = self._definition.timeout if timeout is None else timeout
        expiry = None if seconds is None else now + round(seconds * 1_000_000_000)
        self._expiry[element] = expiry
        self._added += 1
        self._enqueue(element, expiry)

    def delete(self, element: Element) -> None:
        """Take back what an action added; nothing happens when it is not there."""
        self._expiry.pop(element, None)
        if len(self._queue) > 2 * len(self._expiry) + 64:
            self._queue, self._queued = [], set()
            for held, expiry in self._expiry.items():
                self._enqueue(held, expiry)

    def tally(self, now: int) -> SetTally:
        """What is in it at `now`, beside the elements of the file."""
        self._expire(now)
        return SetTally(elements=len(self._expiry), added=self._added, refused=self._refused)

    def _static(self, element: Element) -> bool:
        elements = self._definition.elements
        if isinstance(elements, Addresses):
            return not isinstance(element, int | bytes) and in_addresses(elements, element)
        if isinstance(elements, Ranges):
            return isinstance(element, int) and in_ranges(elements.ranges, element)
        return isinstance(element, bytes) and element in elements.values

    def _enqueue(self, element: Element, expiry: int | None) -> None:
        # One entry an element, however often a flood adds it again: the queue is never longer than the set.
        if expiry is not None and element not in self._queued:
            self._queued.add(element)
            heappush(self._queue, (expiry, next(self._order), element))

    def _expire(self, now: int) -> None:
        while self._queue and self._queue[0][0] <= now:
            _, _, element = heappop(self._queue)
            self._queued.discard(element)
            expiry = self._expiry.get(element)
            if expiry is not None and expiry <= now:
                del self._expiry[element]
            else:
                self._enqueue(element, expiry)

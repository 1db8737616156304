"""Sets while packets flow: the elements of the file, and those that actions added."""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import IPv4Address, IPv6Address

from qfilter.engine.expiring import Expiring
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
        self._live = Expiring()
        self._added = 0
        self._refused = 0

    def contains(self, element: Element, now: int) -> bool:
        """Whether the set holds an element at `now` (monotonic nanoseconds)."""
        if self._static(element):
            return True
        if element not in self._live:
            return False
        due = self._live.due(element)
        return due is None or now < due

    def add(self, element: Element, timeout: float | None, now: int) -> None:
        """Add an element, or start its time anew. Refused and counted when the set is full."""
        if self._static(element):
            return
        self._live.purge(now)
        if element not in self._live and len(self._live) >= self._definition.size:
            self._refused += 1
            return
        seconds = self._definition.timeout if timeout is None else timeout
        self._live.put(element, None if seconds is None else now + round(seconds * 1_000_000_000))
        self._added += 1

    def delete(self, element: Element) -> None:
        """Take back what an action added; nothing happens when it is not there."""
        self._live.drop(element)

    def tally(self, now: int) -> SetTally:
        """What is in it at `now`, beside the elements of the file."""
        self._live.purge(now)
        return SetTally(elements=len(self._live), added=self._added, refused=self._refused)

    def _static(self, element: Element) -> bool:
        elements = self._definition.elements
        if isinstance(elements, Addresses):
            return not isinstance(element, int | bytes) and in_addresses(elements, element)
        if isinstance(elements, Ranges):
            return isinstance(element, int) and in_ranges(elements.ranges, element)
        return isinstance(element, bytes) and element in elements.values

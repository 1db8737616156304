"""Sets while packets flow: the elements of the file, and those that actions added."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import ItemsView, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import cast

from qfilter.engine.expiring import Expiring
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition
from qfilter.model.report import SetTally

_TOP = 1 << 128
_SECOND = 1_000_000_000

Element = int | bytes | IPv4Address | IPv6Address
"""One element of a set; text is UTF-8."""

Digest = tuple[str, bytes]
"""("digest", BLAKE2b of 32 bytes): what is kept of an element of more than 64 bytes."""


@dataclass(slots=True)
class _Added:
    """What actions and operators added to a set."""

    live: Expiring = field(default_factory=Expiring)
    added: int = 0
    refused: int = 0


def in_ranges(ranges: Sequence[tuple[int, int]], number: int) -> bool:
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
        self._added = _Added()

    def inherit(self, former: LiveSet) -> None:
        """Share what was added to a set, where both are dynamic and of one type."""
        ours, theirs = self._definition, former._definition
        if ours.dynamic and theirs.dynamic and ours.type is theirs.type:
            self._added = former._added

    @property
    def dynamic(self) -> bool:
        """Whether anything can be added."""
        return self._definition.dynamic

    def contains(self, element: Element, now: int) -> bool:
        """Whether the set holds an element at `now` (monotonic nanoseconds)."""
        if self._static(element):
            return True
        live = self._added.live
        if element not in live:
            return False
        due = live.due(element)
        return due is None or now < due

    def add(self, element: Element, timeout: float | None, now: int) -> bool:
        """Add an element, or start its time anew. Refused and counted when the set is full; then it is False."""
        if self._static(element):
            return True
        live = self._added.live
        live.purge(now)
        if element not in live and len(live) >= self._definition.size:
            self._added.refused += 1
            return False
        seconds = self._definition.timeout if timeout is None else timeout
        live.put(element, None if seconds is None else now + round(seconds * _SECOND))
        self._added.added += 1
        return True

    def delete(self, element: Element, now: int) -> bool:
        """Take back what was added; False when it is not there at `now`."""
        live = self._added.live
        live.purge(now)
        there = element in live
        live.drop(element)
        return there

    def flush(self, now: int) -> int:
        """Take back all that was added; how many elements that were."""
        count = self.tally(now).elements
        self._added.live.clear()
        return count

    def elements(self, now: int) -> list[tuple[Element | Digest, float | None]]:
        """What was added and is there at `now`, with the seconds that are left; None is for ever."""
        live = self._added.live
        live.purge(now)
        items = cast("ItemsView[Element | Digest, int | None]", live.items())
        return [(element, None if due is None else (due - now) / _SECOND) for element, due in items]

    def tally(self, now: int) -> SetTally:
        """What is in it at `now`, beside the elements of the file."""
        live = self._added.live
        live.purge(now)
        return SetTally(elements=len(live), added=self._added.added, refused=self._added.refused)

    def _static(self, element: Element) -> bool:
        elements = self._definition.elements
        if isinstance(elements, Addresses):
            return not isinstance(element, int | bytes) and in_addresses(elements, element)
        if isinstance(elements, Ranges):
            return isinstance(element, int) and in_ranges(elements.ranges, element)
        return isinstance(element, bytes) and element in elements.values

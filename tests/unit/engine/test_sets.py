"""Live sets: time, size and memory. What they mean is also in tests/fuzz/test_models.py, against a plain model."""

from __future__ import annotations

import sys
from ipaddress import ip_address

from qfilter.engine.expiring import Expiring
from qfilter.engine.sets import LiveSet
from qfilter.errors import Position
from qfilter.model.match import Addresses
from qfilter.model.policy import SetDefinition, SetType, Strings

SECOND = 1_000_000_000
A, B, C = (ip_address(f"192.0.2.{last}") for last in (1, 2, 3))


def live(size: int = 10, timeout: float | None = None) -> LiveSet:
    definition = SetDefinition(
        name="s",
        type=SetType.ADDRESS,
        at=Position("p", 1, 1),
        elements=Addresses(),
        dynamic=True,
        size=size,
        timeout=timeout,
    )
    return LiveSet(definition)


def test_an_element_is_gone_at_the_very_nanosecond() -> None:
    found = live()
    found.add(A, 1.5, 0)
    assert found.contains(A, 1_499_999_999)
    assert not found.contains(A, 1_500_000_000)


def test_a_shorter_time_counts_at_once() -> None:
    """It must not hold its place in a full set until the longer one is over."""
    found = live(size=1)
    found.add(A, 3600, 0)
    found.add(A, 1, 0)
    found.add(B, None, 2 * SECOND)
    assert found.contains(B, 2 * SECOND)
    assert found.tally(2 * SECOND).refused == 0


def test_for_ever_after_a_time_and_a_time_after_for_ever() -> None:
    found = live()
    found.add(A, 1, 0)
    found.add(A, None, 0)
    found.add(B, None, 0)
    found.add(B, 1, 0)
    assert (found.contains(A, 9 * SECOND), found.contains(B, 9 * SECOND)) == (True, False)
    assert found.tally(9 * SECOND).elements == 1


def test_deleted_and_added_again() -> None:
    found = live(size=1)
    for seconds in (50, 5, 50, 5):
        found.add(A, seconds, 0)
        found.delete(A, 0)
        assert not found.contains(A, 0)
    found.add(A, 5, 0)
    assert found.contains(A, 4 * SECOND)
    assert found.tally(6 * SECOND).elements == 0


def test_a_flood_of_elements_stops_at_the_size() -> None:
    found = live(size=100, timeout=10)
    for number in range(10_000):
        found.add(ip_address(number), None, number)
    tally = found.tally(10_000)
    assert (tally.elements, tally.added, tally.refused) == (100, 100, 9_900)


class TestMemory:
    """`_heap` is looked at because that is what would grow."""

    def test_adding_the_same_again(self) -> None:
        found = Expiring()
        for now in range(10_000):
            found.put("a", now + 3600 if now % 2 else now + 5)
            found.purge(now)
        assert len(found._heap) <= 2 * len(found) + 65

    def test_coming_and_going(self) -> None:
        found = Expiring()
        for now in range(10_000):
            found.put(now % 7, now + 1_000_000)
            found.drop(now % 7)
        assert len(found) == 0
        assert len(found._heap) <= 65

    def test_a_long_text_costs_as_much_as_a_short_one(self) -> None:
        found = Expiring()
        found.put(b"a" * 60_000, 5)
        found.put((b"b" * 60_000, 7), 5)
        assert b"a" * 60_000 in found
        assert b"a" * 59_999 not in found
        assert found.due((b"b" * 60_000, 7)) == 5
        assert sum(sys.getsizeof(part) for key in found._due for part in (key if isinstance(key, tuple) else ())) < 1000


def test_texts_are_bytes_of_a_string_set() -> None:
    definition = SetDefinition(
        name="s", type=SetType.STRING, at=Position("p", 1, 1), elements=Strings(frozenset({b"lo"})), dynamic=True
    )
    found = LiveSet(definition)
    found.add(b"x" * 100, None, 0)
    assert found.contains(b"lo", 0)
    assert found.contains(b"x" * 100, 0)
    assert not found.contains(b"x" * 99, 0)

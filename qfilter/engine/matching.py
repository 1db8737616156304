"""One value against one match, in Kleene's logic: true, false, or unknown with its cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

from qfilter.engine.sets import Element, in_addresses, in_ranges
from qfilter.engine.value import Known, Partial, Unknown
from qfilter.model.match import (
    Addresses,
    AllMatch,
    AnyBit,
    AnyMatch,
    InSet,
    Masked,
    Match,
    NotMatch,
    Ranges,
    Text,
    TextLength,
    TextTest,
)
from qfilter.regex import compile_pattern

Truth = bool | Unknown
"""What a condition is: true, false, or not to be known, and why."""

Contains = Callable[[str, Element], bool]
"""Whether the set of that name holds an element now."""


def negate(truth: Truth) -> Truth:
    """Not."""
    return truth if isinstance(truth, Unknown) else not truth


def every(truths: Iterable[Truth]) -> Truth:
    """And: false wins over unknown, and of several unknowns the first is the cause."""
    return _combine(truths, decisive=False)


def some(truths: Iterable[Truth]) -> Truth:
    """Or: true wins over unknown, and of several unknowns the first is the cause."""
    return _combine(truths, decisive=True)


def _combine(truths: Iterable[Truth], *, decisive: bool) -> Truth:
    unknown: Unknown | None = None
    for truth in truths:
        if isinstance(truth, Unknown):
            unknown = unknown or truth
        elif truth is decisive:
            return decisive
    return unknown or not decisive


def matches(match: Match, value: Known | Partial, contains: Contains) -> Truth:
    """Whether a value that is there matches. A field with several values matches when any of them does.

    A value of another kind than the test's does not match: only fields of scapy have values of several kinds.
    """
    match match:
        case NotMatch(inner):
            return negate(matches(inner, value, contains))
        case AnyMatch(inners):
            return some(matches(inner, value, contains) for inner in inners)
        case AllMatch(inners):
            return every(matches(inner, value, contains) for inner in inners)
    if isinstance(value, tuple):
        return some(matches(match, one, contains) for one in value)
    if isinstance(value, Partial):
        return _matches_partial(match, value, contains)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    match match, value:
        case Text(test, pattern), bytes():
            return _TEXT_TESTS[test](value, pattern)
        case TextLength(ranges), bytes():
            return in_ranges(ranges, len(value))
        case InSet(name), _:
            return contains(name, value)
        case Addresses(), IPv4Address() | IPv6Address():
            return in_addresses(match, value)
        case Ranges(ranges), int():
            return in_ranges(ranges, value)
        case Masked(wanted, mask), int():
            return value & mask == wanted
        case AnyBit(bits), int():
            return value & bits != 0
    return False


_TEXT_TESTS: Mapping[TextTest, Callable[[bytes, bytes], bool]] = {
    TextTest.EQUALS: bytes.__eq__,
    TextTest.CONTAINS: bytes.__contains__,
    TextTest.STARTS_WITH: bytes.startswith,
    TextTest.ENDS_WITH: bytes.endswith,
    TextTest.REGEX: lambda text, pattern: compile_pattern(pattern).search(text) is not None,
}


def _matches_partial(match: Match, value: Partial, contains: Contains) -> Truth:
    """A test that the known part can settle: something found in it, a wrong beginning, a length that does not fit."""
    if isinstance(value.known, tuple):
        return some((matches(match, value.known, contains), value.rest))
    known, length = value.known, value.length
    match match:
        case TextLength(ranges) if length is not None:
            return in_ranges(ranges, length)
        case Text(TextTest.REGEX):
            return value.rest
        case Text(test, pattern) if length is not None and _length_excludes(test, len(pattern), length):
            return False
        case Text(TextTest.CONTAINS, pattern) if pattern in known:
            return True
        case Text(TextTest.STARTS_WITH, pattern) if len(known) >= len(pattern):
            return known.startswith(pattern)
        case Text(TextTest.STARTS_WITH | TextTest.EQUALS, pattern) if not pattern.startswith(known):
            return False
    return value.rest


def _length_excludes(test: TextTest, pattern: int, length: int) -> bool:
    return length != pattern if test is TextTest.EQUALS else length < pattern

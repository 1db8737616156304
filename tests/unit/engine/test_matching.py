"""One value against one match, form by form, and Kleene's tables."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from qfilter.engine.matching import Truth, every, matches, negate, some
from qfilter.engine.sets import Element
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
from qfilter.model.verdict import Reason

U = Unknown(Reason.TRUNCATED, "payload")
V = Unknown(Reason.FRAGMENT, "dport")


def contains(name: str, element: Element) -> bool:
    return (name, element) in {("ports", 22), ("words", b"lo")}


def test_and() -> None:
    assert [every(pair) for pair in ((True, True), (True, U), (U, False), (False, U), (U, V), ())] == [
        True,
        U,
        False,
        False,
        U,
        True,
    ]


def test_or() -> None:
    assert [some(pair) for pair in ((False, False), (False, U), (U, True), (True, U), (V, U), ())] == [
        False,
        U,
        True,
        True,
        V,
        False,
    ]


def test_not() -> None:
    assert [negate(truth) for truth in (True, False, U)] == [False, True, U]


def text(test: TextTest, pattern: bytes) -> Text:
    return Text(test, pattern)


NUMBERS = Ranges(((1, 3), (22, 22)))
ROWS: list[tuple[Match, Known, bool]] = [
    (NUMBERS, 3, True),
    (NUMBERS, 4, False),
    (Ranges(()), 0, False),
    (Ranges(((0, 0),)), (), False),
    (NUMBERS, (9, 22), True),
    (NUMBERS, b"3", False),
    (Masked(2, 3), 6, True),
    (Masked(2, 3), 3, False),
    (AnyBit(6), 4, True),
    (AnyBit(6), 1, False),
    (Addresses(v4=((0, 5),)), ip_address("0.0.0.5"), True),
    (Addresses(v4=((0, 5),)), ip_address("::5"), False),
    (InSet("ports"), 22, True),
    (InSet("ports"), 23, False),
    (InSet("words"), "lo", True),
    (text(TextTest.EQUALS, b"lo"), "lo", True),
    (text(TextTest.EQUALS, "é".encode()), "é", True),
    (text(TextTest.STARTS_WITH, b"et"), "eth0", True),
    (text(TextTest.ENDS_WITH, b"h0"), "eth0", True),
    (text(TextTest.CONTAINS, b""), b"", True),
    (text(TextTest.REGEX, rb"^\xff$"), b"\xff", True),
    (text(TextTest.REGEX, rb"a.c"), b"a\nc", False),
    (TextLength(((2, 2),)), "é", True),
    (AnyMatch(()), 1, False),
    (AllMatch(()), 1, True),
    (AllMatch((text(TextTest.CONTAINS, b"a"), TextLength(((1, 1),)))), b"ab", False),
]


@pytest.mark.parametrize(("match", "value", "expected"), ROWS)
def test_a_value_that_is_there(match: Match, value: Known, expected: bool) -> None:
    assert matches(match, value, contains) is expected
    assert matches(NotMatch(match), value, contains) is not expected


BEGINS = Partial(b"GET /", 9, U)
OPEN = Partial(b"GET /", None, U)
SOME = Partial((1, 2), None, U)
PARTIAL: list[tuple[Match, Partial, Truth]] = [
    (text(TextTest.CONTAINS, b"ET"), BEGINS, True),
    (text(TextTest.CONTAINS, b"HTTP"), BEGINS, U),
    (text(TextTest.CONTAINS, b"0123456789"), BEGINS, False),
    (text(TextTest.CONTAINS, b"0123456789"), OPEN, U),
    (text(TextTest.STARTS_WITH, b"GET"), BEGINS, True),
    (text(TextTest.STARTS_WITH, b"PUT"), BEGINS, False),
    (text(TextTest.STARTS_WITH, b"GET /a"), BEGINS, U),
    (text(TextTest.STARTS_WITH, b"GET xx"), BEGINS, False),
    (text(TextTest.EQUALS, b"GET /"), BEGINS, False),
    (text(TextTest.EQUALS, b"GET /"), OPEN, U),
    (text(TextTest.EQUALS, b"GET"), OPEN, False),
    (text(TextTest.EQUALS, b"GET /abcd"), BEGINS, U),
    (text(TextTest.ENDS_WITH, b"/"), BEGINS, U),
    (text(TextTest.REGEX, b"GET"), BEGINS, U),
    (TextLength(((9, 9),)), BEGINS, True),
    (TextLength(((5, 5),)), BEGINS, False),
    (TextLength(((5, 5),)), OPEN, U),
    (InSet("words"), BEGINS, U),
    (Ranges(((2, 2),)), SOME, True),
    (Ranges(((3, 3),)), SOME, U),
    (NotMatch(Ranges(((2, 2),))), SOME, False),
    (NotMatch(Ranges(((3, 3),))), SOME, U),
    (AnyMatch((Ranges(((3, 3),)), Ranges(((1, 1),)))), SOME, True),
    (AllMatch((text(TextTest.CONTAINS, b"HTTP"), TextLength(((1, 1),)))), BEGINS, False),
]


@pytest.mark.parametrize(("match", "value", "expected"), PARTIAL)
def test_a_value_of_which_only_the_beginning_is_here(match: Match, value: Partial, expected: Truth) -> None:
    assert matches(match, value, contains) == expected

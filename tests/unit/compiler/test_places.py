"""Where a rule is decided, and why not natively."""

from __future__ import annotations

import pytest

from qfilter.compiler.places import place, reasons
from qfilter.model.match import AllMatch, AnyMatch, InSet, Match, NotMatch, Ranges, Text, TextTest
from qfilter.model.plan import Place
from qfilter.model.rule import AllOf, AnyOf, Condition, FieldTest, NotOf, ScapyTest
from tests.unit.compiler.policies import at, field, python, rule

PORTS = Ranges(((1, 2),))
TRANSLATABLE, UNTRANSLATABLE = Text(TextTest.REGEX, b"^a"), Text(TextTest.REGEX, rb"a(?i)*")
LITERAL = Text(TextTest.CONTAINS, UNTRANSLATABLE.pattern)
QNAME, PREDICATE = ScapyTest("DNSQR", "qname", PORTS, at(5)), python()


def payload(match: Match, depth: int = 0) -> FieldTest:
    return FieldTest("payload", match, at(5), depth)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (AllOf(()), ()),
        (AllOf((field("dport"), NotOf(payload(TRANSLATABLE)))), ()),
        (payload(AnyMatch((LITERAL, NotMatch(InSet("names"))))), ()),
        (QNAME, ("scapy.DNSQR.qname",)),
        (PREDICATE, ("python my.check",)),
        (payload(UNTRANSLATABLE), ("payload regex",)),
        (payload(NotMatch(AllMatch((LITERAL, AnyMatch((TRANSLATABLE, UNTRANSLATABLE)))))), ("payload regex",)),
        (payload(UNTRANSLATABLE, depth=2), ("inner.inner.payload regex",)),
        (
            AllOf((field("dport"), AnyOf((PREDICATE, NotOf(QNAME), PREDICATE)), payload(UNTRANSLATABLE))),
            ("python my.check", "scapy.DNSQR.qname", "payload regex"),
        ),
    ],
)
def test_what_needs_python_is_named_in_file_order(condition: Condition, expected: tuple[str, ...]) -> None:
    one = rule(5, match=condition)
    assert reasons(one) == expected
    assert place(one) is (Place.PYTHON if expected else Place.NATIVE)


def test_what_is_inside_a_rule_is_no_reason() -> None:
    outer = rule(5, verdict=None, rules=(rule(6, match=QNAME),))
    assert (reasons(outer), place(outer)) == ((), Place.NATIVE)

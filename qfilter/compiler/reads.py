"""What rules look at: fields, sets, and how many bytes of a packet."""

from __future__ import annotations

from collections.abc import Iterator

from qfilter.compiler import walk
from qfilter.fields import CONNTRACK, FIELDS
from qfilter.model.match import AllMatch, AnyMatch, InSet, Match, NotMatch
from qfilter.model.policy import Policy
from qfilter.model.rule import Base, BytesTest, Capture, FieldTest, PythonTest, Rule, ScapyTest, UpdateSet

HEADERS = 128
"""Bytes that hold the longest IPv4 and TCP headers, 60 each. What longer IPv6 chains hide is `truncated`."""

WHOLE = 65_531
"""The most that the kernel copies: 65,535 less the attribute's header (linux/netfilter/nfnetlink_queue.h)."""

_LONGEST_TRANSPORT = 60


def copy_range(policy: Policy) -> int:
    """Bytes of each packet that the kernel is to copy.

    The policy's own `queue.copy_range` wins, also when rules read more: a packet that it cuts short of what a rule
    needs gets the outcome of the cause `truncated`, which drops unless the policy says otherwise.
    """
    if policy.queue.copy_range is not None:
        return policy.queue.copy_range
    return WHOLE if any(_reads_past_headers(rule) for rule, _ in walk.rules(policy)) else HEADERS


def needs_conntrack(policy: Policy) -> bool:
    """Whether a rule looks at what connection tracking knows: the kernel says it only when asked."""
    return any(not CONNTRACK.isdisjoint(_names(rule)) for rule, _ in walk.rules(policy))


def fields(rule: Rule) -> Iterator[str]:
    """Names of the fields that a rule reads outside its match: to limit by, and to put into sets."""
    if rule.limit is not None:
        yield from rule.limit.per
    for action in rule.actions:
        if isinstance(action, UpdateSet):
            yield action.element


def looks_at(rule: Rule) -> frozenset[str]:
    """Names of all fields that a rule reads by itself, without the rules inside it."""
    return frozenset(_names(rule))


def _names(rule: Rule) -> Iterator[str]:
    yield from fields(rule)
    for test in walk.tests(rule.match):
        if isinstance(test, FieldTest):
            yield test.field
        elif isinstance(test, PythonTest):
            yield from test.predicate.needs


def sets(rule: Rule) -> frozenset[str]:
    """Names of the sets that a rule looks values up in, without the rules inside it."""
    tests = (test for test in walk.tests(rule.match) if isinstance(test, FieldTest | ScapyTest))
    return frozenset(name for test in tests for name in _sets(test.match))


def _sets(match: Match) -> Iterator[str]:
    match match:
        case InSet(name):
            yield name
        case NotMatch(inner):
            yield from _sets(inner)
        case AnyMatch(inners) | AllMatch(inners):
            for inner in inners:
                yield from _sets(inner)


def _reads_past_headers(rule: Rule) -> bool:
    captures = any(isinstance(action, Capture) for action in rule.actions)
    return captures or any(map(_is_payload, fields(rule))) or any(map(_test_reads_past, walk.tests(rule.match)))


def _test_reads_past(test: walk.Test) -> bool:
    match test:
        case FieldTest():
            return test.depth > 0 or _is_payload(test.field)
        case BytesTest(base=Base.NETWORK):
            return test.offset + len(test.value) > HEADERS
        case BytesTest(base=Base.TRANSPORT):
            return test.offset + len(test.value) > _LONGEST_TRANSPORT
        case BytesTest() | ScapyTest() | PythonTest():
            return True


def _is_payload(name: str) -> bool:
    field = FIELDS.get(name)
    # `inner.saddr` in a limit or a set: a tunnel's own headers may stand anywhere.
    return field is None or field.needs_payload

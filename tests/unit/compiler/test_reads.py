"""How many bytes the kernel copies."""

from __future__ import annotations

import pytest

from qfilter.compiler import compile_policy
from qfilter.compiler.reads import looks_at, sets
from qfilter.model.match import AllMatch, AnyMatch, InSet, NotMatch, Ranges
from qfilter.model.policy import QueueSettings
from qfilter.model.rule import (
    AllOf,
    AnyOf,
    Base,
    BytesTest,
    Capture,
    Condition,
    FieldTest,
    Limit,
    Log,
    NotOf,
    Rule,
    ScapyTest,
    SetOperation,
    UpdateSet,
)
from tests.unit.compiler.policies import MACHINE, at, field, policy, python, rule

HEADERS, WHOLE = 128, 65_531


def some_bytes(base: Base, offset: int) -> BytesTest:
    return BytesTest(base, offset, b"\1\2", b"\xff\xff", at(5))


def copied(*rules: Rule, queue: QueueSettings | None = None) -> int:
    return compile_policy(policy(*rules, queue=queue), MACHINE).copy_range


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (AllOf(()), HEADERS),
        (AllOf((field("saddr"), field("tcp.mss"), field("length"))), HEADERS),
        (field("payload"), WHOLE),
        (field("checksum"), WHOLE),
        (field("saddr", depth=1), WHOLE),
        (AllOf((field("saddr"), NotOf(AnyOf((field("payload"),))))), WHOLE),
        (ScapyTest("DNSQR", "qname", Ranges(()), at(5)), WHOLE),
        (python(), WHOLE),
        (some_bytes(Base.NETWORK, 126), HEADERS),
        (some_bytes(Base.NETWORK, 127), WHOLE),
        (some_bytes(Base.TRANSPORT, 58), HEADERS),
        (some_bytes(Base.TRANSPORT, 59), WHOLE),
        (some_bytes(Base.PAYLOAD, 0), WHOLE),
    ],
)
def test_a_condition_decides_how_much_is_copied(condition: Condition, expected: int) -> None:
    assert copied(rule(5, match=condition)) == expected
    assert copied(rule(4), rule(5, verdict=None, rules=(rule(6, match=condition),))) == expected


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (rule(5, actions=(Log(), UpdateSet(SetOperation.ADD, "seen", "saddr"))), HEADERS),
        (rule(5, actions=(UpdateSet(SetOperation.ADD, "seen", "payload"),)), WHOLE),
        (rule(5, actions=(UpdateSet(SetOperation.ADD, "seen", "inner.saddr"),)), WHOLE),
        (rule(5, actions=(Capture("odd.pcapng", 1_000_000),)), WHOLE),
        (rule(5, limit=Limit(10, 1, 10, per=("saddr",))), HEADERS),
        (rule(5, limit=Limit(10, 1, 10, per=("saddr", "payload"))), WHOLE),
    ],
)
def test_so_do_actions_and_limits(of: Rule, expected: int) -> None:
    assert copied(of) == expected


@pytest.mark.parametrize("range_", [40, 256, WHOLE])
def test_the_policy_has_the_last_word(range_: int) -> None:
    assert copied(rule(5, match=field("payload")), queue=QueueSettings(copy_range=range_)) == range_


def test_what_a_rule_looks_at() -> None:
    found = NotOf(AnyOf((FieldTest("saddr", NotMatch(AnyMatch((InSet("a"), ONE))), at(5)), field("dport", 22))))
    layer = ScapyTest("IP", "ttl", AllMatch((InSet("b"), ONE)), at(5))
    one = rule(5, match=AllOf((found, layer)), limit=Limit(1, 1, 1, ("hour",), over=False))
    assert sorted(looks_at(one)) == ["dport", "hour", "saddr"]
    assert sorted(sets(one)) == ["a", "b"]


ONE = Ranges(((1, 1),))

"""What a new engine goes on with: everything of the same name, and nothing else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from qfilter.engine.build import build
from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import Position
from qfilter.model.verdict import Kind, Verdict
from qfilter.policy.load import loads

TEXT = """version: 1
default: {input: drop, output: drop}
sets:
  bad: {type: address, dynamic: true, timeout: 10s, size: 2}
rules:
  - {id: bad, match: {saddr: $bad}, count: caught, verdict: drop}
  - {id: slow, match: {protocol: icmp}, limit: {rate: 1/hour, burst: 1}, verdict: accept}
  - {id: mine, hook: output, match: {protocol: udp}, verdict: accept, scope: flow}
"""
A, B, C = (ip_address(f"192.0.2.{last}") for last in (11, 12, 13))
SECOND = 1_000_000_000


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def engine(time: Time, old: str = "", new: str = "", name: str = "p.yaml") -> ReferenceEngine:
    return ReferenceEngine(loads(TEXT.replace(old, new, 1), name), Clock(monotonic=time))


def ask(asked: ReferenceEngine, **fields: object) -> Verdict:
    return asked.decide(build({"hook": "input", **fields}))


def test_counts_go_on_by_name_and_those_of_rules_that_went_do_not(time: Time) -> None:
    old, new = engine(time), engine(time, "id: slow", "id: other")
    old.add("bad", A, None)
    ask(old, saddr=str(A))
    ask(old, protocol="icmp")
    new.inherit(old, {})
    ask(old, saddr=str(A))  # the old one may judge until the new one takes its place
    ask(new, saddr=str(A))
    report = new.report()
    assert {rule.rule: rule.tally.packets for rule in report.rules} == {"bad": 3, "other": 0, "mine": 0}
    assert (report.counters["caught"].packets, report.verdicts[Kind.DROP].packets, report.total.packets) == (3, 3, 4)
    third = engine(time)
    third.inherit(new, {})
    assert {rule.rule: rule.tally.packets for rule in third.report().rules} == {"bad": 3, "slow": 0, "mine": 0}


def test_added_elements_go_on_with_their_time(time: Time) -> None:
    old, new = engine(time), engine(time, "timeout: 10s, size: 2", "timeout: 99s, size: 1")
    assert old.add("bad", A, None)
    assert old.add("bad", B, 30.0)
    assert not old.add("bad", C, None)
    time.now = 4 * SECOND
    new.inherit(old, {})
    assert new.elements("bad") == [(A, 6.0), (B, 26.0)]
    assert not new.add("bad", C, None), "there is room for one only"
    assert new.delete("bad", B)
    assert not new.delete("bad", B)
    time.now = 10 * SECOND
    assert new.elements("bad") == []
    assert not new.delete("bad", A), "its time is over"
    assert new.add("bad", C, None)
    assert new.elements("bad") == [(C, 99.0)]
    assert (new.report().sets["bad"].added, new.report().sets["bad"].refused) == (3, 2)
    assert new.flush("bad") == 1
    assert new.elements("bad") == []


@pytest.mark.parametrize(
    "other",
    ["bad: {type: address, elements: [192.0.2.9]}", "bad: {type: address, elements: [192.0.2.9], dynamic: false}"],
)
def test_a_set_that_is_not_dynamic_any_more_has_the_files_elements_alone(time: Time, other: str) -> None:
    old, new = engine(time), engine(time, "bad: {type: address, dynamic: true, timeout: 10s, size: 2}", other)
    old.add("bad", A, None)
    new.inherit(old, {})
    assert (ask(new, saddr=str(A)).rule, ask(new, saddr="192.0.2.9").rule) == (None, "bad")
    with pytest.raises(KeyError):
        new.elements("bad")


def test_a_set_of_another_type_begins_empty(time: Time) -> None:
    old = engine(time)
    new = ReferenceEngine(
        loads(TEXT.replace("type: address", "type: port").replace("saddr: $bad", "sport: $bad")), Clock(monotonic=time)
    )
    old.add("bad", A, None)
    new.inherit(old, {})
    assert new.elements("bad") == []


def test_a_long_text_is_listed_by_its_digest_and_deleted_by_itself(time: Time) -> None:
    sets = "sets: {s: {type: string, dynamic: true}}\nrules: [{match: {iifname: $s}, verdict: drop}]\n"
    asked = ReferenceEngine(loads(f"version: 1\ndefault: {{input: drop}}\n{sets}"), Clock(monotonic=time))
    assert asked.add("s", b"x" * 100, None)
    ((shown, left),) = asked.elements("s")
    assert isinstance(shown, tuple)
    assert (shown[0], len(shown[1]), left) == ("digest", 32, None)
    assert asked.delete("s", b"x" * 100)


@pytest.mark.parametrize(
    ("old", "new", "passes"),
    [
        ("", "", False),
        ("id: bad", "id: evil", False),
        ("rate: 1/hour", "rate: 2/hour", True),
        ("id: slow", "id: s", True),
    ],
)
def test_a_limit_goes_on_with_the_same_rule_and_numbers(time: Time, old: str, new: str, passes: bool) -> None:
    before, after = engine(time), engine(time, old, new)
    assert ask(before, protocol="icmp").decision.kind is Kind.ACCEPT
    after.inherit(before, {})
    assert (ask(after, protocol="icmp").decision.kind is Kind.ACCEPT) is passes


ENDS = {"hook": "output", "protocol": "udp", "saddr": "192.0.2.1", "daddr": "192.0.2.2", "sport": 1000, "dport": 53}
BACK = {"protocol": "udp", "saddr": "192.0.2.2", "daddr": "192.0.2.1", "sport": 53, "dport": 1000}
PLACE = Position("new.yaml", 77, 5)


def test_a_flow_goes_on_with_its_rule_at_its_new_place(time: Time) -> None:
    old, new = engine(time), engine(time, name="new.yaml")
    ask(old, **ENDS)
    new.inherit(old, {"mine": PLACE})
    verdict = ask(new, **BACK)
    assert (verdict.decision.kind, verdict.rule, verdict.detail, verdict.at) == (Kind.ACCEPT, "mine", "flow", PLACE)


def test_a_flow_whose_rule_is_not_named_is_forgotten_for_good(time: Time) -> None:
    """Also when a third policy is like the first: what it would decide alike is not what the second decided."""
    first, second, third = (engine(time) for _ in range(3))
    ask(first, **ENDS)
    second.inherit(first, {})
    third.inherit(second, {"mine": PLACE})
    assert ask(third, **BACK).decision.kind is Kind.DROP
    assert ask(third, **ENDS).decision.kind is Kind.ACCEPT
    assert ask(third, **BACK).decision.kind is Kind.ACCEPT


def test_a_flow_goes_on_through_any_number_of_policies(time: Time) -> None:
    now = engine(time)
    ask(now, **ENDS)
    for _ in range(5):
        following = engine(time)
        following.inherit(now, {"mine": PLACE})
        now = following
    assert ask(now, **BACK).decision.kind is Kind.ACCEPT

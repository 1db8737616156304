"""The plan document, decoded again: every form that it has, row by row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given

from qfilter import _native
from qfilter.compiler import compile_policy, encode
from qfilter.errors import PolicyError
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.malformed import Malformed
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
from qfilter.model.plan import Capabilities, Place
from qfilter.model.policy import Policy, QueueSettings, SetDefinition, SetType, Strings
from qfilter.model.rule import (
    Action,
    AllOf,
    AnyOf,
    Base,
    BytesTest,
    Capture,
    Condition,
    Count,
    FieldTest,
    Limit,
    Log,
    NotOf,
    Rule,
    ScapyTest,
    Scope,
    SetMark,
    SetOperation,
    UpdateSet,
)
from qfilter.model.verdict import ACCEPT, DROP, Decision, Kind, Reason, RejectWith
from qfilter.policy.load import load
from tests.lab.process import ROOT
from tests.unit.compiler.policies import MACHINE, at, field, policy, python, reject, rule
from tests.unit.compiler.test_compile import policies

INDEX = {name: index for index, name in enumerate(FIELDS)}
DPORT, SADDR, PAYLOAD = INDEX["dport"], INDEX["saddr"], INDEX["payload"]
UNTRANSLATABLE = rb"a(?i)*"


def document(of: Policy) -> Any:
    return msgpack.unpackb(encode(compile_policy(of, MACHINE, install=False)))


def a_set(name: str, elements: Addresses | Ranges | Strings, **rest: object) -> SetDefinition:
    made = SetDefinition(name=name, type=SetType.STRING, at=at(3), elements=elements)
    return replace(made, **rest)  # type: ignore[arg-type]


def with_sets(of: Policy, *sets: SetDefinition) -> Policy:
    return replace(of, sets={one.name: one for one in sets})


BLOCKED, SEEN = a_set("blocked", Addresses()), a_set("seen", Strings(frozenset()), dynamic=True)


def test_the_least_policy() -> None:
    assert document(policy()) == {
        "version": 2,
        "fields": list(FIELDS),
        "allow": [],
        "defaults": [None, [1, 0], None, None, None],
        "on_failure": [False] * 8,
        "mark_mask": 0,
        "sets": [],
        "counters": [],
        "addresses": [],
        "rules": [],
    }


def test_what_holds_for_the_whole_policy() -> None:
    of = policy(
        defaults={Hook.FORWARD: reject(RejectWith.REJECT_ROUTE), Hook.PREROUTING: Decision(Kind.QUEUE, queue=7)},
        on_failure={Reason.QUEUE_FULL: Kind.ACCEPT, Reason.DEADLINE: Kind.ACCEPT},
        queue=QueueSettings(mark_mask=0xF0),
    )
    of = replace(of, allow=frozenset({Malformed.TCP_FLAGS, Malformed.IPV4_SOURCE_ROUTE}))
    found = document(of)
    assert found["defaults"] == [[3, 7], None, [2, 12], None, None]
    assert found["on_failure"] == [False, True, False, False, False, False, False, True]
    assert found["mark_mask"] == 0xF0
    assert found["allow"] == ["ipv4-source-route", "tcp-flags"]


def test_every_field_of_a_rule() -> None:
    one = rule(
        5,
        hooks=(Hook.POSTROUTING, Hook.INPUT),
        limit=Limit(10, 60, 20, per=("saddr", "dport"), over=True),
        actions=(Log("x"),),
        scope=Scope.FLOW,
        match=field("dport"),
    )
    assert document(policy(one))["rules"] == [
        {
            "id": "r5",
            "hooks": 0b10010,
            "end": 1,
            "match": ["field", DPORT, 0, ["ranges", [[1, 1]]]],
            "limit": {"rate": 10, "seconds": 60, "burst": 20, "per": [SADDR, DPORT], "over": True},
            "actions": [["log"]],
            "verdict": [0, 0],
            "flow": True,
            "place": "native",
        }
    ]


def test_what_a_rule_leaves_out() -> None:
    (found,) = document(policy(rule(5, verdict=None)))["rules"]
    absent = ("hooks", "match", "limit", "actions", "verdict", "flow")
    assert {key: found[key] for key in absent} == {
        "hooks": 0,
        "match": ["all", []],
        "limit": None,
        "actions": [],
        "verdict": None,
        "flow": False,
    }


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (ACCEPT, [0, 0]),
        (DROP, [1, 0]),
        (reject(RejectWith.TCP_RESET), [2, 1]),
        (Decision(Kind.QUEUE, queue=0), [3, 0]),
        (Decision(Kind.QUEUE, queue=65_535), [3, 65_535]),
        (Decision(Kind.REPEAT), [4, 0]),
    ],
)
def test_verdicts(verdict: Decision, expected: list[int]) -> None:
    of = policy(rule(5, verdict=verdict), queue=QueueSettings(first=9, last=9))
    assert document(of)["rules"][0]["verdict"] == expected


def test_rules_stand_in_file_order_with_the_end_of_what_is_inside_them() -> None:
    inner = rule(6, verdict=None, rules=(rule(7), rule(8)))
    of = policy(rule(5, verdict=None, rules=(inner, rule(9))), rule(10))
    ends = [(each["id"], each["end"]) for each in document(of)["rules"]]
    assert ends == [("r5", 5), ("r6", 4), ("r7", 3), ("r8", 4), ("r9", 5), ("r10", 6)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (AllOf(()), ["all", []]),
        (AnyOf(()), ["any", []]),
        (NotOf(AnyOf((AllOf(()), AllOf(())))), ["not", ["any", [["all", []], ["all", []]]]]),
        (field("saddr", depth=4), ["field", SADDR, 4, ["ranges", [[1, 1]]]]),
        (BytesTest(Base.NETWORK, 0, b"\x45", b"\xff", at(5)), ["bytes", 0, 0, b"\x45", b"\xff", False]),
        (BytesTest(Base.TRANSPORT, -4, b"\0\1", b"\0\1", at(5), True), ["bytes", 1, -4, b"\0\1", b"\0\1", True]),
        (BytesTest(Base.PAYLOAD, 9, b"", b"", at(5)), ["bytes", 2, 9, b"", b"", False]),
    ],
)
def test_conditions(condition: Condition, expected: list[object]) -> None:
    assert document(policy(rule(5, match=condition)))["rules"][0]["match"] == expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Ranges(()), ["ranges", []]),
        (Ranges(((0, 1), (5, 0xFFFF_FFFF))), ["ranges", [[0, 1], [5, 0xFFFF_FFFF]]]),
        (Addresses(((1, 2),)), ["addresses", 1]),  # 0 are those of the set
        (Masked(2, 0x17), ["masked", 2, 0x17]),
        (AnyBit(6), ["any_bit", 6]),
        (Text(TextTest.EQUALS, b""), ["equals", b""]),
        (Text(TextTest.CONTAINS, b"\xff"), ["contains", b"\xff"]),
        (Text(TextTest.STARTS_WITH, b"a"), ["starts_with", b"a"]),
        (Text(TextTest.ENDS_WITH, b"a"), ["ends_with", b"a"]),
        (Text(TextTest.REGEX, b"^a."), ["regex", r"(?-u)\Aa[\x00-\x09\x0b-\xff]"]),
        (TextLength(((0, 64),)), ["length", [[0, 64]]]),
        (InSet("blocked"), ["set", 0]),
        (InSet("seen"), ["set", 1]),
        (NotMatch(AnyBit(1)), ["not", ["any_bit", 1]]),
        (AnyMatch((AnyBit(1), AllMatch((AnyBit(2),)))), ["any", [["any_bit", 1], ["all", [["any_bit", 2]]]]]),
    ],
)
def test_tests_of_a_value(match: Match, expected: list[object]) -> None:
    of = with_sets(policy(rule(5, match=FieldTest("payload", match, at(5)))), BLOCKED, SEEN)
    assert document(of)["rules"][0]["match"] == ["field", PAYLOAD, 0, expected]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (ScapyTest("DNSQR", "qname", AnyBit(1), at(5)), ["python"]),
        (python(), ["python"]),
        (FieldTest("payload", Text(TextTest.REGEX, UNTRANSLATABLE), at(5)), ["python"]),
        (
            AllOf((field("dport"), NotOf(python()))),
            ["all", [["field", DPORT, 0, ["ranges", [[1, 1]]]], ["not", ["python"]]]],
        ),
        (
            FieldTest("payload", NotMatch(AnyMatch((AnyBit(1), Text(TextTest.REGEX, UNTRANSLATABLE)))), at(5)),
            ["python"],
        ),
    ],
)
def test_what_only_python_decides(condition: Condition, expected: list[object]) -> None:
    (found,) = document(policy(rule(5, match=condition)))["rules"]
    assert (found["match"], found["place"]) == (expected, "python")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Log("prefix"), ["log"]),
        (Capture("x.pcapng", 1_000), ["capture"]),
        (SetMark(1, 0xFF), ["mark", 1, 0xFF]),
        (UpdateSet(SetOperation.ADD, "seen", "saddr"), ["add", 1, SADDR, None]),
        (UpdateSet(SetOperation.ADD, "seen", "saddr", 0.1), ["add", 1, SADDR, 100_000_000]),
        (UpdateSet(SetOperation.DELETE, "seen", "dport"), ["delete", 1, DPORT]),
    ],
)
def test_actions(action: Action, expected: list[object]) -> None:
    of = with_sets(policy(rule(5, actions=(action,))), BLOCKED, SEEN)
    assert document(of)["rules"][0]["actions"] == [expected]


def test_counters_have_the_order_in_which_they_are_first_named() -> None:
    inner = rule(6, actions=(Count("b"), Count("a")))
    found = document(
        policy(rule(5, verdict=None, actions=(Count("c"),), rules=(inner,)), rule(7, actions=(Count("b"),)))
    )
    assert found["counters"] == ["c", "b", "a"]
    assert [each["actions"] for each in found["rules"]] == [
        [["count", 0]],
        [["count", 1], ["count", 2]],
        [["count", 1]],
    ]


def test_addresses_are_packed_and_each_stands_once() -> None:
    one = Addresses(v4=((0x0A000000, 0x0AFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF)), v6=((1, (1 << 128) - 1),))
    other = Addresses(v4=one.v4)
    of = policy(*(rule(n, match=FieldTest("saddr", match, at(n))) for n, match in enumerate((other, one, other), 5)))
    found = document(with_sets(of, a_set("blocked", one)))
    v4 = bytes.fromhex("0a000000 0affffff ffffffff ffffffff")
    assert found["addresses"] == [
        {"v4": v4, "v6": bytes(15) + b"\1" + b"\xff" * 16},
        {"v4": v4, "v6": b""},
    ]
    assert found["sets"][0]["elements"] == {"addresses": 0}
    assert [each["match"][3] for each in found["rules"]] == [["addresses", 1], ["addresses", 0], ["addresses", 1]]


def test_sets_stand_in_file_order() -> None:
    sets = (
        a_set("z", Strings(frozenset({b"b", b"\xff", b"a"})), dynamic=True, timeout=1.5, size=9),
        a_set("a", Ranges(((1, 2),))),
    )
    assert document(with_sets(policy(), *sets))["sets"] == [
        {
            "name": "z",
            "type": "string",
            "dynamic": True,
            "timeout": 1_500_000_000,
            "size": 9,
            "elements": {"strings": [b"a", b"b", b"\xff"]},
        },
        {
            "name": "a",
            "type": "string",
            "dynamic": False,
            "timeout": None,
            "size": 65_536,
            "elements": {"ranges": [[1, 2]]},
        },
    ]


def test_an_id_out_of_a_file_whose_name_is_no_utf_8() -> None:
    (found,) = document(policy(replace(rule(5), id="\udcff.yaml:5")))["rules"]
    assert found["id"] == r"\udcff.yaml:5"


def test_places_that_are_not_the_policys_make_no_document() -> None:
    plan = compile_policy(policy(rule(5, match=python())), MACHINE)
    with pytest.raises(ValueError, match="expected a rule that the plan gives to Python"):
        encode(replace(plan, places={"r5": Place.NATIVE}))
    with pytest.raises(KeyError, match="r5"):
        encode(replace(plan, places={}))


UNORDERED = """version: 1
default: {input: drop}
allow: [tcp-flags, ipv6-routing-type-0, ipv4-source-route]
sets:
  names: {type: string, elements: [eth0, eth1, wlan0, tun0, br0]}
rules:
  - {match: {iifname: $names, tcp.flags: syn}, verdict: accept}
"""
SCRIPT = """import sys
from qfilter.compiler import compile_policy, encode
from qfilter.model.plan import Capabilities
from qfilter.policy.load import load
sys.stdout.buffer.write(encode(compile_policy(load(sys.argv[1]), Capabilities(), install=False)))
"""


def test_the_same_policy_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(UNORDERED)
    written = set()
    for seed in ("1", "2"):
        surroundings = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, str(path)]
        written.add(subprocess.run(command, env=surroundings, capture_output=True, check=True).stdout)
    assert written == {encode(compile_policy(load(str(path)), Capabilities(), install=False))}


@given(policies)
def test_the_document_tells_every_rule_where_it_stands_and_where_it_is_decided(of: Policy) -> None:
    of = replace(of, rules=tuple(renamed(of.rules, iter(range(1_000)))))
    try:
        plan = compile_policy(of, MACHINE)
    except PolicyError:
        return
    found = msgpack.unpackb(encode(plan))["rules"]
    assert {each["id"]: each["place"] for each in found} == plan.places
    assert shape(found, 0, len(found)) == outline(of.rules)


def renamed(rules: tuple[Rule, ...], numbers: Iterator[int]) -> Iterator[Rule]:
    for each in rules:
        yield replace(each, id=f"r{next(numbers)}", rules=tuple(renamed(each.rules, numbers)))


def outline(rules: tuple[Rule, ...]) -> list[object]:
    return [[each.id, outline(each.rules)] for each in rules]


def shape(found: list[Any], start: int, end: int) -> list[object]:
    """The rules of a document from `start` to `end` by what is inside them."""
    nested: list[object] = []
    while start < end:
        nested.append([found[start]["id"], shape(found, start + 1, found[start]["end"])])
        start = found[start]["end"]
    return nested


@pytest.mark.parametrize("seed", sorted(ROOT.glob("native/fuzz/seeds/plan/*")), ids=lambda seed: seed.name)
def test_the_fuzzers_seeds_are_plans_of_today(seed: Path) -> None:
    """From one that is refused at once it finds nothing."""
    _native.Engine(seed.read_bytes(), None)

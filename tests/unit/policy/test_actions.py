"""Verdicts, actions and limits: YAML to values or messages."""

from __future__ import annotations

import pytest

from qfilter.model.rule import Action, Capture, Count, Limit, Log, SetMark, SetOperation, UpdateSet
from qfilter.model.verdict import ACCEPT, DROP, Decision, Kind, RejectWith
from qfilter.policy.actions import parse_actions, parse_limit, parse_verdict
from tests.unit.policy.reading import a_scope, mapping_of, node_of, said


def rejected(code: RejectWith) -> Decision:
    return Decision(Kind.REJECT, reject=code)


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("accept", ACCEPT),
        ("drop", DROP),
        ("reject", rejected(RejectWith.PORT_UNREACHABLE)),
        ("reject tcp-reset", rejected(RejectWith.TCP_RESET)),
        ("{reject: tcp-reset}", rejected(RejectWith.TCP_RESET)),
        ("reject: admin-prohibited", rejected(RejectWith.ADMIN_PROHIBITED)),
        ("queue: 3", Decision(Kind.QUEUE, queue=3)),
        ("{queue: 65535}", Decision(Kind.QUEUE, queue=65535)),
        ("queue 3", Decision(Kind.QUEUE, queue=3)),
        ("repeat", Decision(Kind.REPEAT)),
    ],
)
def test_verdicts(text: str, decision: Decision) -> None:
    scope = a_scope()
    assert (parse_verdict(node_of(text), scope), said(scope)) == (decision, [])


@pytest.mark.parametrize("decision", [ACCEPT, DROP, Decision(Kind.QUEUE, queue=1), *map(rejected, RejectWith)])
def test_a_verdict_reads_what_it_prints(decision: Decision) -> None:
    assert parse_verdict(node_of(str(decision)), a_scope()) == decision


FORMS = "accept, drop, reject, {reject: tcp-reset}, {queue: 1} or repeat"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acept", f"1:1 unknown-name: verdict 'acept': expected {FORMS} (accept)"),
        ("allow", f"1:1 unknown-name: verdict 'allow': expected {FORMS}"),
        ("accept now", "1:1 wrong-type: verdict accept takes no argument: expected 'accept'"),
        ("{drop: now}", "1:8 wrong-type: verdict drop takes no argument: expected 'drop'"),
        ("{reject: rst}", "1:10 unknown-name: reject 'rst': expected one of tcp-reset"),
        ("{queue: 65536}", "1:9 out-of-range: queue 65536: expected 0 to 65535"),
        ("queue", "1:1 missing-key: verdict queue: expected a number, such as {queue: 1}"),
        ("[accept]", f"1:1 wrong-type: a list: expected {FORMS}"),
        ("{}", f"1:1 wrong-type: a mapping: expected {FORMS}"),
        ("true", f"1:1 wrong-type: the boolean 'true': expected {FORMS}"),
    ],
)
def test_verdicts_that_are_none(text: str, message: str) -> None:
    scope = a_scope()
    assert parse_verdict(node_of(text), scope) is None
    assert [one[: len(message)] for one in said(scope)] == [message]


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("{verdict: drop, match: {}}", ()),
        ("{log: true}", (Log(),)),
        ("{log: false}", ()),
        ("{log: {prefix: 'ssh: '}}", (Log("ssh: "),)),
        ("{count: web.requests}", (Count("web.requests"),)),
        ("{mark: 0x1}", (SetMark(1, 0xFFFFFFFF),)),
        ("{mark: {set: 1, mask: 0xff}}", (SetMark(1, 0xFF),)),
        ("{mark: {set: 0}}", (SetMark(0, 0xFFFFFFFF),)),
        ("{add: {set: seen, element: saddr}}", (UpdateSet(SetOperation.ADD, "seen", "saddr"),)),
        (
            "{add: {set: $seen, element: daddr, timeout: 10m}}",
            (UpdateSet(SetOperation.ADD, "seen", "daddr", 600.0),),
        ),
        ("{delete: {set: numbers, element: uid}}", (UpdateSet(SetOperation.DELETE, "numbers", "uid"),)),
        ("{capture: {file: attack.pcapng, max: 10 MiB}}", (Capture("attack.pcapng", 10 << 20),)),
        ("{count: a, log: true, mark: 1}", (Count("a"), Log(), SetMark(1, 0xFFFFFFFF))),
        ("{mark: 1, log: true, count: a}", (SetMark(1, 0xFFFFFFFF), Log(), Count("a"))),
    ],
)
def test_actions(text: str, actions: tuple[Action, ...]) -> None:
    scope = a_scope()
    assert (parse_actions(mapping_of(text), scope), said(scope)) == (actions, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{log: 1}", "1:7 wrong-type: the number '1': expected true, false, or {prefix: text}"),
        ("{log: {prefx: a}}", "1:8 unknown-key: unknown key 'prefx': expected prefix (prefix)"),
        ('{log: {prefix: "a\\n"}}', "1:7 bad-value: prefix 'a\\n': expected at most 128 printable characters"),
        ("{count: 'a b'}", "1:9 bad-value: counter 'a b': expected 1 to 64 letters"),
        ("{mark: -1}", "1:8 out-of-range: mark -1: expected 0 to 4294967295"),
        ("{mark: {set: 0x100, mask: 0xff}}", "1:27 bad-value: mark 0x100 with mask 0xff: expected a value within"),
        ("{mark: {set: 0, mask: 0}}", "1:23 bad-value: mark 0x0 with mask 0x0: expected a value within the mask"),
        ("{mark: {mask: 1}}", "1:8 missing-key: set missing: expected {set: 0x1, mask: 0xff}"),
        (
            "{add: {set: sen, element: saddr}}",
            "1:13 undefined: set 'sen' is not defined: expected a name of sets: (seen)",
        ),
        ("{add: {set: hosts, element: saddr}}", "1:13 wrong-type: set 'hosts' is not dynamic"),
        ("{add: {set: seen, element: sadr}}", "1:28 unknown-field: unknown field 'sadr': expected a field"),
        (
            "{add: {set: seen, element: dport}}",
            "1:13 wrong-type: set 'seen' has type address: dport takes a set of type port",
        ),
        ("{add: {set: seen, element: saddr, timeout: 0}}", "1:44 out-of-range: duration '0'"),
        ("{delete: {set: seen, element: saddr, timeout: 1}}", "1:38 unknown-key: unknown key 'timeout'"),
        ("{delete: seen}", "1:10 wrong-type: 'seen': expected {set: name, element: saddr}"),
        (
            "{capture: {file: ../a.pcapng, max: 1k}}",
            "1:18 bad-value: file '../a.pcapng': expected a name without a path",
        ),
        ("{capture: {file: /a.pcapng, max: 1k}}", "1:18 bad-value: file '/a.pcapng': expected a name without a path"),
        ("{capture: {file: .pcapng, max: 1k}}", "1:18 bad-value: file '.pcapng': expected a name without a path"),
        ("{capture: {file: a.txt, max: 1k}}", "1:18 bad-value: file 'a.txt': expected a name without a path"),
        ("{capture: {file: a.pcapng}}", "1:11 missing-key: max missing: expected {file: name.pcapng, max: 10 MiB}"),
    ],
)
def test_actions_that_are_none(text: str, message: str) -> None:
    scope = a_scope()
    assert parse_actions(mapping_of(text), scope) == ()
    assert said(scope)[0][: len(message)] == message


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{rate: 10/second}", Limit(10, 1, 5)),
        ("{rate: 10 / minute, burst: 20}", Limit(10, 60, 20)),
        ("{rate: 1/hour, per: saddr}", Limit(1, 3600, 5, ("saddr",))),
        ("{rate: 1/day, per: [saddr, dport], over: true}", Limit(1, 86400, 5, ("saddr", "dport"), over=True)),
    ],
)
def test_limits(text: str, limit: Limit) -> None:
    scope = a_scope()
    assert (parse_limit(node_of(text), scope), said(scope)) == (limit, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10/second", "1:1 wrong-type: '10/second': expected {rate: 10/second}"),
        ("{burst: 5}", "1:1 missing-key: rate missing: expected {rate: 10/second}"),
        ("{rate: 10}", "1:8 bad-value: rate '10': expected packets per second, minute, hour, day"),
        (
            "{rate: 10/seconds}",
            "1:8 bad-value: rate '10/seconds': expected packets per second, minute, hour, day, such as ",
        ),
        ("{rate: 0/second}", "1:8 out-of-range: rate 0: expected 1 to 1000000000"),
        ("{rate: -1/second}", "1:8 bad-value: rate '-1/second'"),
        ("{rate: 1/second, burst: 0}", "1:25 out-of-range: burst 0: expected 1 to 1000000000"),
        (
            "{rate: 1/second, per: sadr}",
            "1:23 unknown-field: unknown field 'sadr': expected a field (`qfilter fields` lists ",
        ),
        ("{rate: 1/second, per: []}", "1:23 bad-value: per: the list is empty: expected a field"),
        ("{rate: 1/second, over: 1}", "1:24 wrong-type: the number '1': expected true or false"),
        (
            "{rate: 1/second, brust: 1}",
            "1:18 unknown-key: unknown key 'brust': expected rate, burst, per, over (burst)",
        ),
    ],
)
def test_limits_that_are_none(text: str, message: str) -> None:
    scope = a_scope()
    assert parse_limit(node_of(text), scope) is None
    assert [one[: len(message)] for one in said(scope)] == [message]

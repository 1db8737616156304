"""Remembered verdicts: bounded, by ends and protocol, and forgotten in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address

import pytest

from qfilter.engine.flows import OTHER_IDLE, Flows, Read
from qfilter.engine.value import ABSENT, Unknown, Value
from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.verdict import ACCEPT, Logged, Reason, Verdict
from tests.unit.engine.policies import Hand, engine, said, tcp

VERDICT = Verdict(
    ACCEPT, Reason.RULE, rule="r", at=Position("p", 1, 1), mark=7, effects=(Logged("r", Position("p", 1, 1)),)
)


def reader(**values: Value) -> Read:
    """Reads the fields of a UDP packet from one end to another."""
    fields: Mapping[str, Value] = {
        "protocol": 17,
        "saddr": ip_address("192.0.2.1"),
        "daddr": ip_address("192.0.2.2"),
        "sport": 1000,
        "dport": 53,
        **values,
    }
    return lambda field: fields.get(field, ABSENT)


def test_the_table_is_bounded_and_forgets_who_was_silent_longest() -> None:
    flows = Flows(size=2)
    for port in (1, 2):
        flows.remember(Hook.INPUT, reader(sport=port), VERDICT, port)
    assert flows.recall(Hook.INPUT, reader(sport=1), 3)
    flows.remember(Hook.INPUT, reader(sport=3), VERDICT, 4)
    found = [port for port in (1, 2, 3) if flows.recall(Hook.INPUT, reader(sport=port), 5)]
    assert found == [1, 3]


def test_only_the_verdict_is_repeated() -> None:
    flows = Flows()
    flows.remember(Hook.INPUT, reader(), VERDICT, 0)
    assert flows.recall(Hook.INPUT, reader(), 1) == replace(VERDICT, mark=None, effects=(), detail="flow")


def test_both_directions_and_nobody_else() -> None:
    flows = Flows()
    flows.remember(Hook.OUTPUT, reader(), VERDICT, 0)
    back = {"saddr": ip_address("192.0.2.2"), "daddr": ip_address("192.0.2.1"), "sport": 53, "dport": 1000}
    assert flows.recall(Hook.INPUT, reader(**back), 1)
    assert not flows.recall(Hook.INPUT, reader(**{**back, "sport": 1000, "dport": 53}), 1)
    assert not flows.recall(Hook.FORWARD, reader(), 1)
    assert not flows.recall(Hook.INPUT, reader(protocol=136), 1)


@pytest.mark.parametrize("value", [ABSENT, Unknown(Reason.FRAGMENT, "dport")])
def test_without_ports_there_is_no_flow(value: Value) -> None:
    flows = Flows()
    flows.remember(Hook.INPUT, reader(dport=value), VERDICT, 0)
    flows.remember(Hook.INPUT, reader(), VERDICT, 0)
    assert not flows.recall(Hook.INPUT, reader(dport=value), 0)


def test_a_silent_flow_ends() -> None:
    flows = Flows()
    flows.remember(Hook.INPUT, reader(), VERDICT, 0)
    assert flows.recall(Hook.INPUT, reader(), OTHER_IDLE - 1)
    assert flows.recall(Hook.INPUT, reader(), 2 * OTHER_IDLE - 2)
    assert not flows.recall(Hook.INPUT, reader(), 3 * OTHER_IDLE - 2)


def test_a_verdict_that_drops_holds_for_the_flow_too() -> None:
    text = """
rules:
  - {id: scan, match: {payload: {contains: evil}}, scope: flow, verdict: drop}
  - {id: rest, verdict: accept}
"""
    judged = engine(text, Hand().clock)
    answers = [judged.decide(tcp(80, payload=payload, tcp_flags="ack")) for payload in ("good", "evil", "good")]
    assert [said(answer)[2] for answer in answers] == ["rest", "scan", "scan"]

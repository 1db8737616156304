"""Why a packet got its verdict: which rules were looked at, what failed, and what the packet has instead."""

from __future__ import annotations

from qfilter.engine.explain import Explanation, explain
from qfilter.engine.value import Unknown
from qfilter.model.packet import Packet
from qfilter.model.verdict import Reason
from tests.unit.engine import wire
from tests.unit.engine.policies import Hand, cut, engine, packet, tcp

POLICY = """
sets: {hosts: {type: address, elements: [192.0.2.1]}}
rules:
  - {id: far, match: {dport: 22, saddr: 203.0.113.1, ttl: 3}, verdict: drop}
  - {id: near, match: {dport: 22, saddr: $hosts, ttl: 64}, verdict: drop}
  - {id: limited, match: {dport: 80}, limit: {rate: 1/day, burst: 1}, verdict: drop}
  - {id: tunnel, match: {inner.saddr: 10.0.0.1, inner.dport: {not: 7}}, verdict: drop}
  - {id: either, match: {any: [{dport: 1}, {not: {sport: 1024-65535}}]}, verdict: drop}
  - {id: name, match: {scapy.DNSQR.qname: evil., bytes: {base: transport, offset: 2, value: '00 35'}}, verdict: drop}
  - {id: get, match: {payload: {contains: GET}}, verdict: drop}
"""


def misses(explanation: Explanation) -> list[str]:
    """Each rule that did not match, with what failed in it."""
    return [
        f"{step.rule.id}: " + "; ".join(f"{part.condition} ({part.found})" for part in step.failed)
        for step in explanation.near_misses
    ]


def test_near_misses_first() -> None:
    judged = engine(POLICY, Hand().clock)
    explain(judged, tcp(80))
    explanation = explain(judged, tcp(80, payload="x\x1b[2J"))
    assert explanation.verdict.reason is Reason.DEFAULT
    assert misses(explanation) == [
        "limited: ",
        "near: dport 22 (dport is 80)",
        "either: any of (dport 1; not (sport 1024-65535)) (dport is 80, sport is 49152)",
        r"get: payload contains 'GET' (payload is 'x\x1b[2J')",
        "tunnel: inner.saddr 10.0.0.1 (inner.saddr is absent); inner.dport not 7 (inner.dport is absent)",
        (
            "name: scapy.DNSQR.qname equals 'evil.' (scapy.DNSQR.qname is absent); "
            "bytes at transport+2 00 35 (bytes at transport+2 is 00 50)"
        ),
        "far: dport 22 (dport is 80); saddr 203.0.113.1 (saddr is 192.0.2.1); ttl 3 (ttl is 64)",
    ]


def test_the_rule_that_could_not_be_decided_comes_before_all() -> None:
    explanation = explain(engine(POLICY), cut(tcp(81, payload="xGEyyyyyyT"), 42))
    assert explanation.verdict.rule == "get"
    first = explanation.near_misses[0]
    assert isinstance(first.truth, Unknown)
    assert misses(explanation)[0] == "get: payload contains 'GET' (payload is 'xG'... (cut: truncated))"
    assert "scapy.DNSQR.qname is unknown (truncated: scapy.DNSQR.qname)" in "".join(misses(explanation))


def test_a_lie_inside_a_tunnel() -> None:
    data = wire.ipv4(wire.ipv4(wire.udp(length=99), wire.UDP), wire.IPIP)
    explanation = explain(engine(POLICY), Packet.from_bytes(data, hook="input"))
    assert explanation.verdict.reason is Reason.MALFORMED
    assert "inner.saddr is unknown (malformed: udp-length)" in misses(explanation)[0]


def test_a_match_has_no_failed_conditions_and_ends_the_way() -> None:
    explanation = explain(engine(POLICY), tcp(22))
    assert [(step.rule.id, step.truth, len(step.failed)) for step in explanation.steps] == [
        ("far", False, 2),
        ("near", True, 0),
    ]


def test_rules_inside_are_looked_at_only_when_theirs_matches() -> None:
    text = """
rules:
  - id: outer
    match: {protocol: tcp}
    rules: [{id: inside, match: {dport: 22}, verdict: accept}]
  - {id: rest, match: {dport: 9}, verdict: drop}
  - {id: never, verdict: accept}
"""
    explanation = explain(engine(text), packet(protocol="udp", dport=9))
    assert [step.rule.id for step in explanation.steps] == ["outer", "rest"]


def test_marks_are_shown_as_the_rule_saw_them() -> None:
    text = """
rules:
  - {id: sets, mark: 5}
  - {id: sees, match: {mark: 7}, verdict: accept}
"""
    explanation = explain(engine(text), tcp(22, mark=1))
    assert misses(explanation) == ["sees: mark 7 (mark is 5)"]
    assert dict(explanation.fields)["mark"] == "1"


def test_a_malformed_packet_shows_no_fields_and_no_rules() -> None:
    explanation = explain(engine(POLICY), Packet.from_bytes(b"\x45", hook="input"))
    assert (explanation.fields, explanation.steps) == ((), ())
    assert explanation.verdict.detail == "ipv4-header-short"

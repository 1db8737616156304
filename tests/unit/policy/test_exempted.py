"""`queue.exempt` with established, and rules that count on every packet."""

from __future__ import annotations

import pytest

from qfilter.policy.load import loads

PER = "limit: {rate: 1/second, per: saddr}, verdict: accept"


def blind(exempt: str, rule: str) -> list[str]:
    text = f"version: 1\ndefault: {{input: drop}}\nqueue: {{exempt: [{exempt}]}}\nrules:\n- {{{rule}}}\n"
    return [f"{one.kind} {one.at.line}:{one.at.column}" for one in loads(text, "p.yaml").warnings]


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (f"match: {{protocol: udp}}, {PER}", ["exempt-blind 5:3"]),
        (f"match: {{all: [{{protocol: udp}}, {{dport: 53}}]}}, {PER}", ["exempt-blind 5:3"]),
        ("match: {protocol: udp, scapy.DNSQR.qname: a.}, verdict: drop", ["exempt-blind 5:3"]),
        ("match: {protocol: udp, not: {payload: {contains: a}}}, verdict: drop", ["exempt-blind 5:3"]),
        (f"match: {{protocol: udp}}, rules: [{{match: {{dport: 53}}, {PER}}}]", ["exempt-blind 5:36"]),
        # the first packet is what these are about
        (f"match: {{protocol: tcp}}, {PER}", []),
        (f"match: {{inner.protocol: udp}}, {PER}", []),
        (f"match: {{protocol: [tcp, udp]}}, {PER}", []),
        (f"match: {{any: [{{protocol: udp}}, {{protocol: tcp}}]}}, {PER}", []),
        (f"match: {{protocol: udp}}, scope: flow, {PER}", []),
        ("match: {protocol: udp, dport: 53}, verdict: drop", []),
        ("match: {protocol: udp}, limit: {rate: 1/second}, verdict: accept", []),
        ("match: {protocol: udp, scapy.UDP.len: 9}, verdict: drop", []),
    ],
)
def test_blind_rules(rule: str, found: list[str]) -> None:
    assert blind("lo, established", rule) == found
    assert blind("lo", rule) == []

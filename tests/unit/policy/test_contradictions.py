"""Conditions that no packet can meet together, and those that look like it but can."""

from __future__ import annotations

import pytest

from qfilter.model.hook import Hook
from qfilter.model.rule import Condition
from qfilter.policy.conditions import parse_match
from tests.unit.policy.reading import a_scope, node_of, said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{protocol: icmp, dport: 22}",
            "1:18 contradiction: no packet can meet 'dport' together with `protocol` at 1:2",
        ),
        (
            "{dport: 22, protocol: icmp}",
            "1:13 contradiction: no packet can meet 'protocol' together with `dport` at 1:2",
        ),
        (
            "{protocol: udp, tcp.flags: syn}",
            "1:17 contradiction: no packet can meet 'tcp.flags' together with `protocol` at 1:2",
        ),
        (
            "{tcp.mss: 5, udp.length: 5}",
            "1:14 contradiction: no packet can meet 'udp.length' together with `tcp.mss` at 1:2",
        ),
        ("{protocol: {not: [tcp, udp, 33, 132, 136]}, sport: 1}", "1:45 contradiction: no packet can meet 'sport'"),
        (
            "{saddr: 192.0.2.1, daddr: 2001:db8::1}",
            "1:20 contradiction: no packet can meet 'daddr' together with `saddr` at 1:2",
        ),
        (
            "{icmp.type: 8, saddr: 2001:db8::/32}",
            "1:16 contradiction: no packet can meet 'saddr' together with `icmp.type`",
        ),
        ("{family: ipv6, ip.id: 7}", "1:16 contradiction: no packet can meet 'ip.id' together with `family` at 1:2"),
        (
            "{family: ipv4, protocol: icmpv6}",
            "1:16 contradiction: no packet can meet 'protocol' together with `family`",
        ),
        ("{family: {not: ipv4}, saddr: 192.0.2.1}", "1:23 contradiction: no packet can meet 'saddr'"),
        ("{hook: output, iifname: lo}", "1:16 contradiction: no packet can meet 'iifname' together with `hook` at 1:2"),
        ("{uid: 0, iifname: lo}", "1:10 contradiction: no packet can meet 'iifname' together with `uid` at 1:2"),
        (
            "{all: [{dport: 1-10}, {dport: 11-20}]}",
            "1:24 contradiction: no packet can meet 'dport' together with `dport` at 1:9",
        ),
        ("{ttl: {not: 0-255}}", "1:2 contradiction: no packet can meet 'ttl' together with itself"),
        ("{all: [{saddr: 192.0.2.0/25}, {saddr: 192.0.2.128}]}", "1:32 contradiction: no packet can meet 'saddr'"),
        ("{inner.protocol: icmp, inner.dport: 1}", "1:24 contradiction: no packet can meet 'inner.dport'"),
        ("{protocol: icmp, any: [{dport: 1}, {ttl: 1}]}", "1:25 contradiction: no packet can meet 'dport'"),
        ("{not: {protocol: icmp, dport: 1}}", "1:24 contradiction: no packet can meet 'dport'"),
        (
            "{all: [{dport: 1-20}, {dport: 1-10}, {dport: 15}]}",
            "1:39 contradiction: no packet can meet 'dport' together with `dport` at 1:24",
        ),
    ],
)
def test_contradictions(text: str, message: str) -> None:
    scope = a_scope()
    parse_match(node_of(text), scope)
    assert [one[: len(message)] for one in said(scope)] == [message]


@pytest.mark.parametrize(
    "text",
    [
        "{protocol: [tcp, icmp], dport: 22}",
        "{protocol: {not: icmp}, dport: 22}",
        "{protocol: ipencap, inner.dport: 22}",
        "{protocol: ah, ah.spi: 5}",
        "{saddr: $lan, daddr: 2001:db8::1}",
        "{saddr: {not: 192.0.2.1}, daddr: 2001:db8::1}",
        "{saddr: $hosts, daddr: 2001:db8::1}",
        "{family: ipv6, protocol: [icmp, icmpv6]}",
        "{family: ipv4, inner.saddr: 2001:db8::1}",
        "{iifname: eth0, oifname: eth1}",
        "{hook: [output, input], iifname: lo}",
        "{all: [{dport: 1-10}, {dport: 10-20}]}",
        "{all: [{tcp.options: maxseg}, {tcp.options: sack}]}",
        "{any: [{dport: 1}, {protocol: icmp}]}",
        "{protocol: tcp, not: {protocol: udp}}",
        "{all: [{mark: 0x1/0x1}, {mark: 0}]}",
    ],
)
def test_what_some_packet_meets(text: str) -> None:
    scope = a_scope()
    assert parse_match(node_of(text), scope) is not None
    assert said(scope) == []


@pytest.mark.parametrize(
    ("hooks", "text", "message"),
    [
        (
            [Hook.OUTPUT],
            "{iifname: lo}",
            "1:2 contradiction: no packet can meet 'iifname' together with the rule's `hook`",
        ),
        ([Hook.INPUT], "{uid: 0}", "1:2 contradiction: no packet can meet 'uid' together with the rule's `hook`"),
        (
            [Hook.INPUT],
            "{hook: output}",
            "1:2 contradiction: no packet can meet 'hook' together with the rule's `hook`",
        ),
        ([Hook.OUTPUT, Hook.INPUT], "{iifname: lo}", None),
        ([Hook.FORWARD], "{iifname: lo, oifname: lo}", None),
        ([], "{iifname: lo}", None),
    ],
)
def test_hooks_of_the_rule(hooks: list[Hook], text: str, message: str | None) -> None:
    scope = a_scope()
    parse_match(node_of(text), scope, hooks)
    assert said(scope) == ([message] if message else [])


def _inside(outer: str, inner: str) -> list[str]:
    scope = a_scope()
    around: Condition | None = parse_match(node_of(outer, file="outer.yaml"), scope)
    assert around is not None
    parse_match(node_of(inner), scope, (), [around])
    return said(scope)


def test_rules_inside_a_rule() -> None:
    assert _inside("{protocol: udp}", "{tcp.flags: syn}") == [
        "1:2 contradiction: no packet can meet 'tcp.flags' together with `protocol` at 1:2"
    ]
    assert _inside("{protocol: udp}", "{dport: 53}") == []


def test_a_mark_may_change_between_a_rule_and_those_inside_it() -> None:
    assert _inside("{mark: 0}", "{mark: 1}") == []

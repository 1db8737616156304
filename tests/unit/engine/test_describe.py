"""Conditions and values in words, none of which can move a terminal's cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.describe import condition, printable, text, value
from qfilter.engine.value import ABSENT, Partial, Unknown
from qfilter.model.verdict import Reason
from tests.unit.engine.policies import engine

U = Unknown(Reason.TRUNCATED, "payload")


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("{dport: [22, 80-90]}", "dport 22, 80-90"),
        ("{dport: {not: 22}}", "dport not 22"),
        (
            "{saddr: [192.0.2.0/24, 2001:db8::1, 10.0.0.1-10.0.0.9]}",
            "saddr 10.0.0.1-10.0.0.9, 192.0.2.0/24, 2001:db8::1",
        ),
        ("{inner.inner.icmp.type: echo-request}", "inner.inner.icmp.type echo-request"),
        ("{tcp.flags: 'syn / fin,syn,rst,ack'}", "tcp.flags syn / fin,syn,rst,ack"),
        ("{tcp.flags: none}", "tcp.flags none / fin,syn,rst,psh,ack,urg,ecn,cwr"),
        ("{mark: 0x1/0xff}", "mark 0x1 / 0xff"),
        ("{payload: {contains: [GET, PUT], length: 1-9}}", "payload contains 'GET', contains 'PUT' and length 1-9"),
        ("{iifname: 'eth*'}", "iifname starts_with 'eth'"),
        ("{not: {any: [{ttl: 1}, {ttl: 2, dport: 9}]}}", "not (any of (ttl 1; ttl 2 and dport 9))"),
        ("{scapy.IP.ttl: 3}", "scapy.IP.ttl 3"),
        ("{bytes: {base: payload, offset: 3, value: 'f0', mask: 'f0'}}", "bytes at payload+3 mask f0 f0"),
        ("{bytes: {not: {base: network, offset: 0, value: '45'}}}", "bytes at network+0 not 45"),
        ("{dport: [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]}", "dport 1, 3, 5, 7, 9, 11, 13, 15 and 2 more"),
        ("{}", "every packet"),
    ],
)
def test_conditions(match: str, words: str) -> None:
    rule = engine(f"rules:\n  - {{match: {match}, verdict: drop}}\n").policy.rules[0]
    assert condition(rule.match) == words


def test_values() -> None:
    assert value(ABSENT) == "absent"
    assert value(U) == "unknown (truncated: payload)"
    assert value(Partial(b"GE", 9, U), "payload") == "'GE'... (cut: truncated)"
    assert value((2, 8), "tcp.options") == "[maxseg, timestamp]"
    assert value(18, "tcp.flags") == "syn,ack"
    assert value(0, "tcp.flags") == "none"
    assert value(b"x" * 50) == "'" + "x" * 48 + "'... (50 bytes)"


@given(st.binary() | st.text())
def test_nothing_moves_a_cursor(raw: bytes | str) -> None:
    assert text(raw).isascii()
    assert text(raw).isprintable()
    assert printable(str(raw)).isprintable()

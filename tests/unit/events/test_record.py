"""What stands in an event, and that a line of it is JSON whatever names it holds."""

from __future__ import annotations

import json
import math
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.events.line import render
from qfilter.events.record import EventType, encode, event, failure_event, verdict_event, worth_recording
from qfilter.model.hook import Hook
from qfilter.model.verdict import ACCEPT, DROP, Captured, Decision, Kind, Logged, Reason, RejectWith, Verdict
from tests.unit.events.samples import AT, BY_RULE, MALFORMED, NOW, SUMMARY, packet


def test_a_verdict_by_a_rule() -> None:
    line = encode(verdict_event(BY_RULE, packet(), SUMMARY, policy="ab12", now=NOW))
    assert line == (
        b'{"timestamp":"2001-09-09T01:46:40.500000Z","type":"verdict","hook":"forward","iifname":"eth0",'
        b'"oifname":"eth1","saddr":"192.0.2.1","daddr":"198.51.100.7","sport":1234,"dport":22,"protocol":"tcp",'
        b'"length":40,"verdict":"drop","reason":"rule","detail":"","rule":"ssh","at":"rules/web.yaml:12:9",'
        b'"logged":["all","ssh"],"prefix":"no: ","policy":"ab12"}\n'
    )


def test_a_failure_of_a_packet_that_could_not_be_read() -> None:
    seen = packet(data=b"", hook=Hook.INPUT, oifname=None, timestamp=None)
    line = encode(verdict_event(MALFORMED, seen, {}, policy="ab12", now=NOW))
    assert line == (
        b'{"timestamp":"2023-11-14T22:13:20.000000Z","type":"failure","hook":"input","iifname":"eth0","oifname":null,'
        b'"saddr":null,"daddr":null,"sport":null,"dport":null,"protocol":null,"length":40,"verdict":"drop",'
        b'"reason":"malformed","detail":"tcp-flags","rule":null,"at":null,"logged":[],"prefix":"","policy":"ab12"}\n'
    )


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision(Kind.REJECT, reject=RejectWith.TCP_RESET), "reject tcp-reset"),
        (Decision(Kind.QUEUE, queue=3), "queue 3"),
        (Decision(Kind.REPEAT), "repeat"),
        (ACCEPT, "accept"),
    ],
)
def test_verdicts(decision: Decision, text: str) -> None:
    assert verdict_event(Verdict(decision, Reason.DEFAULT), packet(), {}, policy="", now=NOW)["verdict"] == text


@pytest.mark.parametrize(
    ("name", "value", "recorded"),
    [
        ("protocol", 58, "ipv6-icmp"),
        ("protocol", 253, "253"),
        ("protocol", "tcp", "tcp"),
        ("saddr", ip_address("2001:db8::1"), "2001:db8::1"),
        ("sport", 0, 0),
    ],
)
def test_what_was_decoded(name: str, value: object, recorded: object) -> None:
    assert json.loads(encode(verdict_event(BY_RULE, packet(), {name: value}, policy="", now=NOW)))[name] == recorded


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_700_000_000.000001, "2023-11-14T22:13:20.000001Z"),
        # times that no calendar has give way to the clock
        (1e18, "2023-11-14T22:13:20.000000Z"),
        (-1e18, "2023-11-14T22:13:20.000000Z"),
        (math.nan, "2023-11-14T22:13:20.000000Z"),
        (math.inf, "2023-11-14T22:13:20.000000Z"),
    ],
)
def test_times(timestamp: float, text: str) -> None:
    made = verdict_event(BY_RULE, packet(timestamp=timestamp), {}, policy="", now=NOW)
    assert made["timestamp"] == text


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("eth\n0", b'"eth\\n0"'),
        ("\x1b[2J", b'"\\u001b[2J"'),
        ("\x7f", b'"\\u007f"'),
        ('"},{', b'"\\"},{"'),
        ("\u202e", b'"\\u202e"'),
        # a name that is not UTF-8, as the kernel allows
        ("eth\udcff", b'"eth\\\\udcff"'),
    ],
)
def test_names_that_are_not_harmless(name: str, written: bytes) -> None:
    line = encode(verdict_event(BY_RULE, packet(iifname=name), {}, policy="", now=NOW))
    assert b'"iifname":' + written + b"," in line


@given(st.text(st.characters(codec=None)), st.text())
def test_a_line_is_one_line_of_ascii_json(interface: str, address: str) -> None:
    line = encode(verdict_event(BY_RULE, packet(iifname=interface), {"saddr": address}, policy="", now=NOW))
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    json.loads(line)["iifname"].encode("utf-8")


def test_a_failure_of_a_packet_of_which_only_the_id_came() -> None:
    made = failure_event(Verdict(DROP, Reason.TRUNCATED, detail="message longer than 9 bytes"), policy="ab12", now=NOW)
    assert made.keys() == verdict_event(MALFORMED, packet(), SUMMARY, policy="ab12", now=NOW).keys()
    assert {key: value for key, value in made.items() if value not in (None, [], "")} == {
        "timestamp": "2023-11-14T22:13:20.000000Z",
        "type": "failure",
        "verdict": "drop",
        "reason": "truncated",
        "detail": "message longer than 9 bytes",
        "policy": "ab12",
    }
    assert "DROP" in render(made)


def test_start_stop_and_lost() -> None:
    values = {"queues": (0, 1), "default": {Hook.INPUT: DROP}, "install": True, "limit": None}
    assert encode(event(EventType.START, NOW, values)) == (
        b'{"timestamp":"2023-11-14T22:13:20.000000Z","type":"start","queues":[0,1],"default":{"input":"drop"},'
        b'"install":true,"limit":null}\n'
    )
    assert encode(event(EventType.LOST, NOW, {"count": 12})) == (
        b'{"timestamp":"2023-11-14T22:13:20.000000Z","type":"lost","count":12}\n'
    )


@pytest.mark.parametrize(
    ("verdict", "wanted"),
    [
        (Verdict(ACCEPT, Reason.RULE, "r", AT), False),
        (Verdict(DROP, Reason.DEFAULT), False),
        (Verdict(ACCEPT, Reason.DEFAULT, effects=(Captured("r", "f", 1),)), False),
        (Verdict(ACCEPT, Reason.DEFAULT, effects=(Captured("r", "f", 1), Logged("r", AT))), True),
        *((Verdict(ACCEPT, reason), True) for reason in tuple(Reason)[2:]),
    ],
)
def test_which_verdicts_are_events(verdict: Verdict, wanted: bool) -> None:
    assert worth_recording(verdict) is wanted

"""Lines for people: their columns, and that nothing in them reaches the terminal's machinery."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.events.line import render
from qfilter.events.record import EventType, event, verdict_event
from qfilter.model.hook import Hook
from qfilter.model.verdict import ACCEPT, Decision, Kind, Reason, RejectWith, Verdict
from tests.unit.events.samples import AT, BY_RULE, MALFORMED, NOW, SUMMARY, packet


def line(verdict: Verdict, **summary: object) -> str:
    return render(verdict_event(verdict, packet(), SUMMARY | summary, policy="ab12", now=NOW))


def test_a_transcript() -> None:
    reject = Verdict(Decision(Kind.REJECT, reject=RejectWith.TCP_RESET), Reason.RULE, "web", AT)
    v6: dict[str, object] = {"saddr": "2001:db8::1", "daddr": "2001:db8::2", "dport": 443}
    ping = {"saddr": "192.0.2.1", "daddr": "192.0.2.2", "protocol": 1}
    seen = packet(hook=Hook.OUTPUT, iifname=None, timestamp=None)
    defaults = {Hook.INPUT: "drop", Hook.OUTPUT: "accept"}
    lines = [
        line(BY_RULE),
        line(reject, **v6),
        line(MALFORMED),
        render(verdict_event(Verdict(ACCEPT, Reason.DEFAULT, at=AT), seen, ping, policy="", now=NOW)),
        render(verdict_event(MALFORMED, seen, {}, policy="", now=NOW)),
        render(event(EventType.LOST, NOW, {"count": 3})),
        render(event(EventType.STOP, NOW, {"queues": [0, 1], "default": defaults, "x": []})),
    ]
    time, now = "01:46:40.500000", "22:13:20.000000"
    ends, where = "192.0.2.1:1234 -> 198.51.100.7:22", "rules/web.yaml:12:9"
    ends6 = "[2001:db8::1]:1234 -> [2001:db8::2]:443"
    assert lines == [
        f"{time}  DROP    forward      eth0->eth1      tcp        {ends:40}  rule       ssh at {where} [no: ]",
        f"{time}  REJECT  forward      eth0->eth1      tcp        {ends6:40}  rule       web at {where} (tcp-reset)",
        f"{time}  DROP    forward      eth0->eth1      tcp        {ends:40}  malformed  tcp-flags",
        f"{now}  ACCEPT  output       -->eth1         icmp       {'192.0.2.1 -> 192.0.2.2':40}  default    at {where}",
        f"{now}  DROP    output       -->eth1         -          {'- -> -':40}  malformed  tcp-flags",
        f"{now}  LOST    3 events could not be written",
        f"{now}  STOP    queues=0,1 default=input:drop,output:accept x=-",
    ]


def test_styles_are_given_the_padded_text() -> None:
    asked = []

    def style(text: str, name: str) -> str:
        asked.append((text, name))
        return f"<{text}>"

    failed = render(verdict_event(MALFORMED, packet(), {}, policy="", now=NOW), style)
    assert failed.startswith("<01:46:40.500000>  <DROP  >  forward")
    assert asked == [("01:46:40.500000", "dim"), ("DROP  ", "drop"), ("malformed", "failure")]
    asked.clear()
    render(verdict_event(BY_RULE, packet(), {}, policy="", now=NOW), style)
    render(event(EventType.LOST, NOW, {"count": 1}), style)
    assert asked == [
        ("01:46:40.500000", "dim"),
        ("DROP  ", "drop"),
        ("rule     ", "dim"),
        ("22:13:20.000000", "dim"),
        ("LOST  ", "lost"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2Jeth0", "\\x1b[2Jeth0"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc\x08", "a\\r\\nb\\tc\\x08"),
        ("\u202egnp", "\\u202egnp"),
        ("eth\udcff", "eth\\udcff"),
        ("\U000e0001", "\\U000e0001"),
        ("größe", "größe"),
    ],
)
def test_names_cannot_write_escape_sequences(name: str, shown: str) -> None:
    made = verdict_event(BY_RULE, packet(iifname=name), SUMMARY, policy="", now=NOW)
    assert f"  {shown}->eth1" in render(made)


@given(st.text(st.characters(codec=None)))
def test_every_part_of_a_line_is_printable(text: str) -> None:
    verdict = Verdict(ACCEPT, Reason.ERROR, text, AT, detail=text)
    seen = packet(iifname=text, oifname=text)
    made = verdict_event(verdict, seen, dict.fromkeys(SUMMARY, text), policy=text, now=NOW)
    assert render(made).isprintable()
    assert render(event(EventType.START, NOW, {text: {text: [text]}})).isprintable()

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
    start: dict[str, object] = {
        "file": "web.yaml",
        "queues": [0, 1],
        "backend": "nft",
        "default": {Hook.INPUT: "drop", Hook.OUTPUT: "accept"},
        "on_failure": {Reason.MALFORMED: Kind.DROP, Reason.ERROR: Kind.DROP},
    }
    own = start | {"backend": None, "on_failure": {Reason.MALFORMED: Kind.DROP, Reason.QUEUE_FULL: Kind.ACCEPT}}
    queue: dict[str, object] = {"queue": 0, "family": None, "queue_full": 0, "socket_full": 3, "errors": {"x": 2}}
    calm: dict[str, object] = {"queue": 0, "family": "ipv6", "queue_full": 0, "errors": {}, "last_failure": ""}
    stop: dict[str, object] = {"packets": 3, "bytes": 180, "verdicts": {Kind.ACCEPT: 1, Kind.DROP: 2, Kind.REPEAT: 0}}
    lines = [
        line(BY_RULE),
        line(reject, **v6),
        line(MALFORMED),
        render(verdict_event(Verdict(ACCEPT, Reason.DEFAULT, at=AT), seen, ping, policy="", now=NOW)),
        render(verdict_event(MALFORMED, seen, {}, policy="", now=NOW)),
        render(event(EventType.LOST, NOW, {"count": 3})),
        render(event(EventType.START, NOW, start)),
        render(event(EventType.START, NOW, own)),
        render(event(EventType.QUEUE, NOW, queue)),
        render(event(EventType.QUEUE, NOW, calm | {"queue_full": 7})),
        render(event(EventType.STOP, NOW, stop | {"queues": [calm], "events_lost": 0})),
        render(event(EventType.STOP, NOW, stop | {"queues": [calm, queue], "events_lost": 5})),
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
        (
            f"{now}  START   web.yaml: queue 0, 1, kernel rules by nft, default input drop, output accept, "
            "every failure drops"
        ),
        (
            f"{now}  START   web.yaml: queue 0, 1, kernel rules of your own, default input drop, output accept, "
            "accepts on queue_full"
        ),
        f"{now}  QUEUE   queue 0: socket_full 3, errors x:2",
        f"{now}  QUEUE   queue 0 ipv6: queue_full 7",
        f"{now}  STOP    3 packets, 180 bytes; 1 accept, 2 drop",
        f"{now}  STOP    3 packets, 180 bytes; 1 accept, 2 drop; queue 0: socket_full 3, errors x:2; 5 events lost",
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
    for kind in EventType:
        if kind not in (EventType.VERDICT, EventType.FAILURE):
            said = {"count": text, "file": text, "last_failure": text, "default": {text: [text]}, "differences": [text]}
            assert render(event(kind, NOW, said | {text: {text: [text]}})).isprintable()

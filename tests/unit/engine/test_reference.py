"""What a policy means where it takes several packets, a cut one or a clock to see; the rest is in conformance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import CAUSES, Captured, Kind, Logged, Reason
from qfilter.policy.load import loads
from qfilter.predicates import predicate
from tests.unit.engine.policies import Hand, cut, engine, packet, said, tcp, udp


@predicate("test.raises")
def _raises(_: Packet) -> bool:
    raise RuntimeError("on purpose")


@predicate("test.not_bool")
def _not_bool(_: Packet) -> bool:
    return 1  # type: ignore[return-value]


@predicate("test.payload_is_long", needs=("payload",))
def _long(seen: Packet) -> bool:
    payload = seen.fields["payload"]
    assert isinstance(payload, bytes)
    return len(payload) > 3


def test_a_verdict_says_where_its_rule_stands() -> None:
    verdict = engine("rules:\n  - {id: ssh, match: {protocol: tcp, dport: 22}, verdict: accept}\n").decide(tcp(22))
    assert str(verdict.at) == "<policy>:4:5"
    assert verdict.rule == "ssh"
    assert verdict.detail == ""


def test_a_default_says_where_it_stands() -> None:
    verdict = engine("rules: []\n").decide(tcp(22))
    assert said(verdict) == ("drop", "default", None)
    assert str(verdict.at) == "<policy>:2:18"


def test_a_hook_without_default_is_an_error_and_drops() -> None:
    verdict = engine("rules: []\n").decide(replace(tcp(22), hook=Hook.FORWARD))
    assert said(verdict) == ("drop", "error", None)
    assert verdict.detail == "LookupError: hook forward: the policy has no default for it"


def test_log_and_capture_are_told_in_the_order_in_which_rules_matched() -> None:
    text = """
rules:
  - {id: first, match: {protocol: tcp}, log: {prefix: hello}}
  - {id: not-me, match: {protocol: udp}, log: true}
  - {id: second, match: {dport: 22}, capture: {file: ssh.pcapng, max: 1 MiB}, log: true, verdict: accept}
"""
    verdict = engine(text).decide(tcp(22))
    assert [
        (effect.rule, effect.prefix if isinstance(effect, Logged) else effect.file) for effect in verdict.effects
    ] == [("first", "hello"), ("second", "ssh.pcapng"), ("second", "")]
    captured = verdict.effects[1]
    assert isinstance(captured, Captured)
    assert captured.limit == 1 << 20


def test_marks_are_seen_by_later_rules_and_told_only_when_changed() -> None:
    text = """
rules:
  - {id: sets, match: {dport: 22}, mark: {set: 0x2, mask: 0x3}}
  - {id: sees, match: {mark: 0x2/0x3}, verdict: accept}
  - {id: other, match: {dport: 23}, verdict: accept}
"""
    judged = engine(text)
    assert judged.decide(tcp(22, mark=0x11)).mark == 0x12
    assert judged.decide(tcp(22, mark=0x12)).mark is None
    assert judged.decide(tcp(23, mark=0x11)).mark is None


class TestUnknown:
    def test_a_rule_that_needs_bytes_that_were_not_copied_ends_the_evaluation(self) -> None:
        text = """
rules:
  - {id: get, match: {payload: {contains: GET}}, verdict: accept}
  - {id: all, verdict: accept}
"""
        judged = engine(text)
        whole = tcp(80, payload="xxxxxxxxxxGET")
        assert said(judged.decide(whole)) == ("accept", "rule", "get")
        verdict = judged.decide(cut(whole, 45))
        assert said(verdict) == ("drop", "truncated", "get")
        assert verdict.detail == "payload"

    def test_what_was_copied_decides_where_it_is_enough(self) -> None:
        text = """
rules:
  - {id: starts, match: {payload: {starts_with: xx}}, verdict: accept}
  - {id: length, match: {payload: {length: 13}}, verdict: reject}
"""
        judged = engine(text)
        assert said(judged.decide(cut(tcp(80, payload="xxxxxxxxxxGET"), 45))) == ("accept", "rule", "starts")
        assert said(judged.decide(cut(tcp(80, payload="yxxxxxxxxxGET"), 45)))[1:] == ("rule", "length")

    def test_rules_that_do_not_need_the_missing_part_are_decided(self) -> None:
        text = """
rules:
  - {id: address, match: {saddr: 192.0.2.1}, verdict: accept}
  - {id: port, match: {dport: 80}, verdict: accept}
"""
        judged = engine(text)
        assert said(judged.decide(cut(tcp(80), 20))) == ("accept", "rule", "address")
        assert said(judged.decide(cut(tcp(80, saddr="192.0.2.2"), 20))) == ("drop", "truncated", "port")

    @pytest.mark.parametrize("outcome", ["accept", "drop"])
    def test_the_outcome_is_the_policys(self, outcome: str) -> None:
        text = (
            f"on_failure: {{truncated: {outcome}}}\nrules:\n  - {{id: port, match: {{dport: 80}}, verdict: reject}}\n"
        )
        assert said(engine(text).decide(cut(tcp(80), 20))) == (outcome, "truncated", "port")

    def test_actions_of_an_unknown_rule_are_not_done(self) -> None:
        text = "rules:\n  - {id: port, match: {dport: 80}, log: true, count: web, mark: 7, verdict: accept}\n"
        judged = engine(text)
        verdict = judged.decide(cut(tcp(80), 20))
        assert (verdict.effects, verdict.mark) == ((), None)
        assert judged.report().counters["web"].packets == 0


class TestErrors:
    def test_a_predicate_that_raises_has_the_outcome_of_error(self) -> None:
        text = "rules:\n  - {id: bad, match: {python: test.raises}, verdict: accept}\n  - {id: all, verdict: accept}\n"
        verdict = engine(text).decide(tcp(22))
        assert said(verdict) == ("drop", "error", "bad")
        assert verdict.detail == "RuntimeError: on purpose"

    def test_an_answer_that_is_no_bool_is_an_error(self) -> None:
        verdict = engine("rules:\n  - {id: bad, match: {python: test.not_bool}, verdict: accept}\n").decide(tcp(22))
        assert said(verdict) == ("drop", "error", "bad")
        assert "answered 1: expected True or False" in verdict.detail

    def test_false_and_an_error_is_false(self) -> None:
        text = """
rules:
  - {id: bad, match: {python: test.raises, dport: 23}, verdict: drop}
  - {id: all, verdict: accept}
"""
        assert said(engine(text).decide(tcp(22))) == ("accept", "rule", "all")
        assert said(engine(text).decide(tcp(23))) == ("drop", "error", "bad")

    def test_what_scapy_cannot_dissect_is_an_error_and_not_absent(self) -> None:
        text = """
rules:
  - {id: tunnel, match: {dport: 53, scapy.DNSQR.qname: {contains: evil}}, verdict: drop}
  - {id: all, verdict: accept}
"""
        judged = engine(text)
        verdict = judged.decide(udp(53, payload=b"\x01\x02\x03"))
        assert said(verdict) == ("drop", "error", "tunnel")
        assert said(judged.decide(udp(54, payload=b"\x01\x02\x03"))) == ("accept", "rule", "all")

    def test_a_fault_of_the_engine_drops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fault(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        judged = engine("rules:\n  - {id: all, verdict: accept}\n")
        monkeypatch.setattr(ReferenceEngine, "_walk", fault)
        assert said(judged.decide(tcp(22))) == ("drop", "error", None)


def test_a_predicate_is_asked_only_for_packets_that_have_what_it_needs() -> None:
    text = "rules:\n  - {id: long, match: {python: test.payload_is_long}, verdict: accept}\n"
    judged = engine(text)
    assert said(judged.decide(udp(9, payload="long"))) == ("accept", "rule", "long")
    assert said(judged.decide(udp(9, payload="not"))) == ("drop", "default", None)
    assert said(judged.decide(cut(udp(9, payload="long"), 29))) == ("drop", "truncated", "long")


class TestLimits:
    TEXT = """
rules:
  - id: some
    match: {dport: 22}
    limit: {rate: 2/second, burst: 3, per: saddr}
    verdict: accept
"""

    def test_a_burst_then_the_rate(self) -> None:
        hand = Hand()
        judged = engine(self.TEXT, hand.clock)
        kinds = [judged.decide(tcp(22)).decision.kind for _ in range(5)]
        assert kinds == [Kind.ACCEPT] * 3 + [Kind.DROP] * 2
        hand.advance(0.5)
        assert [judged.decide(tcp(22)).decision.kind for _ in range(2)] == [Kind.ACCEPT, Kind.DROP]
        hand.advance(60)
        assert [judged.decide(tcp(22)).decision.kind for _ in range(4)] == [Kind.ACCEPT] * 3 + [Kind.DROP]

    def test_each_source_has_its_own(self) -> None:
        judged = engine(self.TEXT, Hand().clock)
        for source in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
            assert [judged.decide(tcp(22, saddr=source)).decision.kind for _ in range(4)] == [Kind.ACCEPT] * 3 + [
                Kind.DROP
            ]

    def test_packets_that_do_not_match_take_nothing(self) -> None:
        judged = engine(self.TEXT, Hand().clock)
        for _ in range(10):
            judged.decide(tcp(23))
        assert judged.decide(tcp(22)).decision.kind is Kind.ACCEPT

    def test_over_matches_the_excess(self) -> None:
        text = """
rules:
  - {id: flood, match: {protocol: udp}, limit: {rate: 1/minute, burst: 2, over: true}, verdict: drop}
  - {id: all, verdict: accept}
"""
        judged = engine(text, Hand().clock)
        assert [judged.decide(udp(9)).rule for _ in range(4)] == ["all", "all", "flood", "flood"]

    def test_a_limit_per_field_that_the_packet_lacks_does_not_match_and_one_unknown_is_unknown(self) -> None:
        text = """
rules:
  - {id: per-port, limit: {rate: 1/second, burst: 9, per: dport}, verdict: accept}
"""
        judged = engine(text, Hand().clock)
        assert said(judged.decide(packet(icmp_type="echo-request"))) == ("drop", "default", None)
        assert said(judged.decide(cut(tcp(22), 20))) == ("drop", "truncated", "per-port")


class TestSets:
    TEXT = """
sets:
  seen: {type: address, dynamic: true, timeout: 10s, size: 2, elements: [203.0.113.0/24]}
rules:
  - {id: blocked, match: {saddr: $seen}, verdict: drop}
  - {id: knock, match: {dport: 1}, add: {set: seen, element: saddr}, verdict: reject}
  - {id: forgive, match: {dport: 2, daddr: 198.51.100.1}, delete: {set: seen, element: daddr}, verdict: accept}
  - {id: all, verdict: accept}
"""

    def test_an_added_element_matches_until_its_time_is_over(self) -> None:
        hand = Hand()
        judged = engine(self.TEXT, hand.clock)
        assert judged.decide(tcp(9)).rule == "all"
        assert judged.decide(tcp(1)).rule == "knock"
        assert judged.decide(tcp(9)).rule == "blocked"
        hand.advance(9.9)
        assert judged.decide(tcp(9)).rule == "blocked"
        hand.advance(0.2)
        assert judged.decide(tcp(9)).rule == "all"

    def test_elements_of_the_file_stay(self) -> None:
        judged = engine(self.TEXT, Hand().clock)
        assert judged.decide(tcp(9, saddr="203.0.113.200")).rule == "blocked"
        assert judged.report().sets["seen"].elements == 0

    def test_a_full_set_refuses_and_counts(self) -> None:
        hand = Hand()
        judged = engine(self.TEXT, hand.clock)
        for last in (1, 2, 3):
            judged.decide(tcp(1, saddr=f"192.0.2.{last}"))
        assert judged.decide(tcp(9, saddr="192.0.2.2")).rule == "blocked"
        assert judged.decide(tcp(9, saddr="192.0.2.3")).rule == "all"
        live = judged.report().sets["seen"]
        assert (live.elements, live.added, live.refused) == (2, 2, 1)
        hand.advance(11)
        judged.decide(tcp(1, saddr="192.0.2.3"))
        assert judged.decide(tcp(9, saddr="192.0.2.3")).rule == "blocked"

    def test_delete_takes_back_what_was_added(self) -> None:
        judged = engine(self.TEXT, Hand().clock)
        judged.decide(tcp(1, saddr="198.51.100.1"))
        assert judged.decide(tcp(9, saddr="198.51.100.1")).rule == "blocked"
        judged.decide(tcp(2, saddr="192.0.2.50", daddr="198.51.100.1"))
        assert judged.decide(tcp(9, saddr="198.51.100.1")).rule == "all"


class TestFlows:
    TEXT = """
default: {input: drop, output: drop, forward: drop}
rules:
  - {id: opens, hook: output, match: {protocol: tcp, dport: 80}, scope: flow, mark: 5, log: true, verdict: accept}
"""

    @staticmethod
    def _answer(**fields: object) -> Packet:
        ends = {"saddr": "198.51.100.1", "daddr": "192.0.2.1", "sport": 80, "dport": 49152}
        return packet(**{"protocol": "tcp", "tcp_flags": "syn,ack", **ends, **fields})

    def _open(self, hand: Hand) -> ReferenceEngine:
        judged = engine(self.TEXT, hand.clock)
        verdict = judged.decide(replace(tcp(80, sport=49152, daddr="198.51.100.1", tcp_flags="syn"), hook=Hook.OUTPUT))
        assert (said(verdict), verdict.mark, len(verdict.effects)) == (("accept", "rule", "opens"), 5, 1)
        return judged

    def test_the_answer_has_the_flows_verdict(self) -> None:
        judged = self._open(Hand())
        verdict = judged.decide(self._answer())
        assert (said(verdict), verdict.detail, verdict.mark, verdict.effects) == (
            ("accept", "rule", "opens"),
            "flow",
            None,
            (),
        )

    @pytest.mark.parametrize("other", [{"saddr": "198.51.100.2"}, {"sport": 81}, {"dport": 49153}])
    def test_another_flow_has_not(self, other: dict[str, object]) -> None:
        assert said(self._open(Hand()).decide(self._answer(**other))) == ("drop", "default", None)

    def test_each_end_stays_behind_its_interface(self) -> None:
        text = self.TEXT.replace("hook: output", "hook: forward")
        judged = engine(text, Hand().clock)

        def by(sent: Packet, iif: str, oif: str) -> Packet:
            return replace(sent, hook=Hook.FORWARD, iifname=iif, oifname=oif)

        out = tcp(80, sport=49152, daddr="198.51.100.1", tcp_flags="ack")
        assert judged.decide(by(out, "lan", "wan")).rule == "opens"
        assert judged.decide(by(self._answer(), "wan", "lan")).rule == "opens"
        for iif, oif in (("lan", "wan"), ("wan", "wan"), ("dmz", "lan"), ("wan", "dmz")):
            assert said(judged.decide(by(self._answer(), iif, oif))) == ("drop", "default", None)

    def test_another_hook_has_not(self) -> None:
        assert said(self._open(Hand()).decide(replace(self._answer(), hook=Hook.FORWARD))) == ("drop", "default", None)

    def test_a_new_connection_on_the_same_ports_is_judged_anew(self) -> None:
        judged = self._open(Hand())
        assert said(judged.decide(self._answer(tcp_flags="syn"))) == ("drop", "default", None)
        assert said(judged.decide(self._answer())) == ("accept", "rule", "opens")
        rows = {row.rule: row.tally.packets for row in judged.report().rules}
        assert rows == {"opens": 2}

    def test_a_silent_flow_is_forgotten(self) -> None:
        hand = Hand()
        judged = self._open(hand)
        hand.advance(5 * 24 * 3600 - 1)
        assert judged.decide(self._answer()).decision.kind is Kind.ACCEPT
        hand.advance(5 * 24 * 3600)
        assert judged.decide(self._answer()).decision.kind is Kind.DROP

    def test_a_malformed_packet_of_the_flow_is_malformed(self) -> None:
        verdict = self._open(Hand()).decide(self._answer(tcp_flags="syn,fin"))
        assert (said(verdict), verdict.detail) == (("drop", "malformed", None), "tcp-flags")


class TestTime:
    TEXT = "rules:\n  - {id: work, match: {hour: 8-17, weekday: {not: [saturday, sunday]}}, verdict: accept}\n"

    @pytest.mark.parametrize(
        ("timestamp", "rule"),
        [(1_700_000_000.0, None), (1_700_035_200.0, "work"), (1_700_294_400.0, None)],
        ids=["Tuesday 22:13 UTC", "Wednesday 08:00 UTC", "Saturday 08:00 UTC"],
    )
    def test_hour_and_weekday_are_the_packets(self, timestamp: float, rule: str | None) -> None:
        judged = engine(self.TEXT, Clock(timezone=UTC, wall=lambda: 0.0))
        assert judged.decide(replace(tcp(22), timestamp=timestamp)).rule == rule


def test_what_ip_carries_behind_a_udp_datagram_is_not_its_payload() -> None:
    judged = engine("rules:\n  - {id: ends, match: {payload: {ends_with: end}}, verdict: accept}\n")
    sound = udp(9, payload="the end")
    padded = replace(sound, data=_lengthened(sound.data, b"padding"), wire_length=sound.wire_length + 7)
    assert said(judged.decide(sound)) == said(judged.decide(padded)) == ("accept", "rule", "ends")


def _lengthened(data: bytes, more: bytes) -> bytes:
    total = len(data) + len(more)
    return data[:2] + total.to_bytes(2) + data[4:] + more


def test_the_report_counts_everything_once() -> None:
    text = """
rules:
  - {id: counts, match: {protocol: tcp}, count: tcp-packets}
  - {id: ssh, match: {dport: 22}, verdict: accept}
  - {id: web, match: {dport: 80}, verdict: reject}
"""
    judged = engine(text)
    sent = [tcp(22), tcp(22), tcp(80), udp(9), cut(udp(9), 20), udp(0)]
    for each in sent:
        judged.decide(each)
    report = judged.report()
    assert {row.rule: row.tally.packets for row in report.rules} == {"counts": 3, "ssh": 2, "web": 1}
    assert report.defaults[Hook.INPUT].tally.packets == 1
    assert {cause: each.tally.packets for cause, each in report.causes.items() if each.tally.packets} == {
        Reason.TRUNCATED: 1,
        Reason.MALFORMED: 1,
    }
    assert report.malformed == {"port-zero": 1}
    assert report.counters["tcp-packets"].packets == 3
    assert report.total.packets == len(sent)
    assert report.total.bytes == sum(each.wire_length for each in sent)
    assert set(report.causes) == set(CAUSES)


def test_the_report_says_what_becomes_of_packets_that_no_rule_decides() -> None:
    text = "version: 1\ndefault: {input: reject, output: accept}\non_failure: {fragment: accept, error: drop}\n"
    report = ReferenceEngine(loads(text, "p.yaml")).report()
    assert {hook: (str(each.decision), str(each.at)) for hook, each in report.defaults.items()} == {
        "input": ("reject port-unreachable", "p.yaml:2:18"),
        "output": ("accept", "p.yaml:2:34"),
    }
    said = {cause: (str(each.decision), str(each.at)) for cause, each in report.causes.items() if each.at}
    assert said == {"fragment": ("accept", "p.yaml:3:24"), "error": ("drop", "p.yaml:3:39")}
    assert {str(each.decision) for each in report.causes.values() if each.at is None} == {"drop"}


def test_two_runs_give_the_same_verdicts() -> None:
    sent = [tcp(port, saddr=f"192.0.2.{port}") for port in (1, 9, 2, 1, 9)] * 3
    runs = []
    for _ in range(2):
        judged = ReferenceEngine(loads("version: 1\ndefault: {input: drop}\n" + TestSets.TEXT), Hand().clock)
        runs.append(repr([judged.decide(each) for each in sent]) + repr(judged.report()))
    assert runs[0] == runs[1]

"""scapy conditions: values, absence, missing bytes, and packets made to wear scapy out or to make it guess."""

from __future__ import annotations

import logging
import struct
import sys
import threading
from dataclasses import replace

import pytest
from scapy.config import conf
from scapy.packet import Packet as ScapyPacket

from qfilter.engine import scapy_read
from qfilter.engine.decoded import Decoded
from qfilter.engine.scapy_guard import GaveUpError, guarded
from qfilter.model.packet import Packet
from qfilter.model.verdict import Reason, Verdict
from tests.unit.engine import wire
from tests.unit.engine.policies import cut, engine, said, udp


def judged(condition: str, packet: Packet) -> Verdict:
    """A rule that drops by a scapy condition, and one behind it that accepts everything."""
    text = f"rules:\n  - {{id: bad, match: {{{condition}}}, verdict: drop}}\n  - {{id: all, verdict: accept}}\n"
    return engine(text).decide(packet)


def dns(questions: bytes, count: int = 1, tail: bytes = b"") -> Packet:
    """A DNS query of some questions."""
    message = struct.pack("!6H", 1, 0x100, count, 0, 0, 0) + questions + tail
    return Packet.from_bytes(wire.ipv4(wire.udp(message), wire.UDP), hook="input")


def question(name: bytes) -> bytes:
    return name + b"\0\1\0\1"


EVIL = question(b"\4evil\0")
POINTER = b"\xc0\x0c"


class TestValues:
    def test_any_record_counts(self) -> None:
        packet = dns(question(b"\4good\0") + EVIL, 2)
        assert judged("scapy.DNSQR.qname: evil.", packet).rule == "bad"
        assert judged("scapy.DNSQR.qname: {not: evil.}", packet).rule == "all"

    def test_without_the_layer_a_condition_and_its_negation_are_false(self) -> None:
        packet = udp(9, payload="x")
        assert judged("scapy.DNSQR.qname: evil.", packet).rule == "all"
        assert judged("scapy.DNSQR.qname: {not: evil.}", packet).rule == "all"

    def test_a_field_that_the_layer_does_not_have_here_is_absent_too(self) -> None:
        """A GRE header without a key: scapy's own answer would be the default of that field."""
        packet = Packet.from_bytes(wire.ipv4(b"\0\0\x88\xb5", wire.GRE), hook="input")
        assert judged("scapy.GRE.proto: 0x88b5", packet).rule == "bad"
        assert judged("scapy.GRE.key: 0", packet).rule == "all"
        assert judged("scapy.GRE.key: {not: 7}", packet).rule == "all"

    def test_what_a_header_says_is_read_not_what_would_be_right(self) -> None:
        packet = Packet.from_bytes(wire.ipv4(wire.udp(b"x"), wire.UDP), hook="input")
        assert judged("scapy.UDP.chksum: 0", packet).rule == "bad"
        assert judged("scapy.IP.chksum: 0", packet).rule == "bad"
        assert judged("scapy.UDP.len: 9", packet).rule == "bad"


class TestMissing:
    """Of a part of a packet scapy reads what the whole one does not have, so it is not asked."""

    def test_the_end_of_a_cut_payload_is_not_the_payload(self) -> None:
        whole = udp(9, payload="abcdef")
        text = "rules:\n  - {id: abc, match: {scapy.Raw.load: abc}, verdict: accept}\n"
        assert said(engine(text).decide(whole)) == ("drop", "default", None)
        assert said(engine(text).decide(cut(whole, 31))) == ("drop", "truncated", "abc")

    def test_nor_is_a_name_that_was_cut(self) -> None:
        whole = dns(question(b"\1a\4evil\0"))
        assert said(judged("scapy.DNSQR.qname: a.", cut(whole, 42))) == ("drop", "truncated", "bad")

    def test_nor_is_a_first_fragment(self) -> None:
        data = wire.ipv4(wire.udp(b"abcdefgh", length=99), wire.UDP, more=True)
        assert said(judged("scapy.Raw.load: abcdefgh", Packet.from_bytes(data, hook="input"))) == (
            "drop",
            "fragment",
            "bad",
        )


HOSTILE = {
    "a name that points at itself": (dns(question(b"\1a" + POINTER), 1), "DNS decompression loop detected"),
    "a name that ends nowhere": (dns(b"\3ab"), "DNS RR prematured end (ofs=4, len=3)"),
    "half a pointer": (dns(b"\1a\xc0"), "DNS incomplete jump token at (ofs=3)"),
    "a record without an end": (dns(b"\1a\0\0"), "requires a buffer of"),
    "101 records": (dns(question(b"\0") * 101, 101), "Maximum amount of items reached in PacketListField"),
}


class TestGivingUp:
    """scapy gives up on each of these; none may pass for a packet without the name that is looked for."""

    @pytest.mark.parametrize(("packet", "why"), HOSTILE.values(), ids=HOSTILE)
    def test_it_is_an_error(self, packet: Packet, why: str) -> None:
        for _ in range(5):  # scapy says what it has said often no more
            verdict = judged("scapy.DNSQR.qname: {contains: evil}", packet)
            assert said(verdict) == ("drop", "error", "bad")
            assert why in verdict.detail

    def test_a_layer_deep_inside_itself(self) -> None:
        data = b""
        for _ in range(300):
            data = wire.ipv4(data, wire.IPIP)
        assert judged("scapy.UDP.dport: 9", Packet.from_bytes(data, hook="input")).reason is Reason.ERROR

    def test_names_of_names_of_names(self) -> None:
        """Twenty jumps, each over a long run of labels, for each of a hundred records."""
        base, runs = 12 + 6 * 100, b"\1a" * 100 + b"\0"
        starts = [base]
        for _ in range(19):
            starts.append(base + len(runs))
            runs += b"\1a" * 100 + struct.pack("!H", 0xC000 | starts[-2])
        pointers = question(struct.pack("!H", 0xC000 | starts[-1]))
        verdict = judged("scapy.DNSQR.qname: {contains: evil}", dns(pointers * 100, 100, runs))
        assert said(verdict) == ("drop", "error", "bad")
        assert verdict.detail == "GaveUpError: more than 100,000 calls to dissect it"

    def test_what_was_given_up_once_is_not_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tries = []

        def dissect(decoded: Decoded) -> tuple[ScapyPacket, ...]:
            tries.append(decoded)
            return scapy_read.dissect(decoded)

        monkeypatch.setattr("qfilter.engine.conditions.dissect", dissect)
        text = "any: [{scapy.DNSQR.qname: a.}, {scapy.DNSQR.qtype: 1}, {scapy.DNS.id: 7}]"
        assert judged(text, dns(b"\3ab")).reason is Reason.ERROR
        assert len(tries) == 1


class TestGuard:
    def test_somebody_elses_switch_does_not_matter(self) -> None:
        conf.debug_dissector = False
        assert judged("scapy.DNSQR.qname: {contains: evil}", dns(b"\1a\0\0")).reason is Reason.ERROR

    def test_nothing_is_heard_of_scapy_at_other_times(self, caplog: pytest.LogCaptureFixture) -> None:
        logging.getLogger("scapy.runtime").warning("something")
        assert caplog.records == []

    def test_another_thread_is_not_disturbed(self) -> None:
        with guarded():
            thread = threading.Thread(target=logging.getLogger("scapy.runtime").error, args=("theirs",))
            thread.start()
            thread.join()

    def test_who_was_profiling_goes_on(self) -> None:
        def profiler(*_: object) -> None:
            return

        sys.setprofile(profiler)
        try:
            with pytest.raises(GaveUpError), guarded():
                logging.getLogger("scapy.runtime").info("a complaint")
            assert sys.getprofile() is profiler
        finally:
            sys.setprofile(None)

    def test_an_exhausted_dissection_is_not_caught_inside(self) -> None:
        def swallows() -> None:
            try:
                for _ in range(200_000):
                    abs(1)
            except Exception:  # noqa: BLE001 - as scapy does
                pass

        with pytest.raises(GaveUpError), guarded():
            swallows()


def test_a_fragment_of_nothing_and_a_malformed_packet_never_reach_scapy() -> None:
    packet = replace(udp(9), data=b"\x45")
    assert judged("scapy.IP.ttl: 64", packet).reason is Reason.TRUNCATED

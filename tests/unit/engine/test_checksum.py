"""The field `checksum`: good, bad, absent, unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR
from scapy.layers.inet6 import (
    HAO,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from qfilter.engine.checksum import BAD, GOOD, complement
from qfilter.engine.decode import decode
from qfilter.engine.readers import read
from qfilter.engine.value import ABSENT, Unknown, Value
from qfilter.model.packet import Packet
from qfilter.model.verdict import Reason
from tests.unit.engine.wire import decoded, ipv4

HEADER4, HEADER6 = IP(src="192.0.2.1", dst="198.51.100.1"), IPv6(src="2001:db8::1", dst="2001:db8::2")
ODD = Raw(b"GET")


def checksum(data: bytes, wire: int | None = None) -> Value:
    return read(decoded(data, wire), "checksum")


LAYERS = [TCP() / ODD, UDP(sport=1, dport=2) / ODD, ICMP() / ODD, ICMPv6EchoRequest(data=b"GET")]
PACKETS = [HEADER4 / layer for layer in LAYERS[:3]] + [HEADER6 / layer for layer in (LAYERS[0], LAYERS[1], LAYERS[3])]


@pytest.mark.parametrize("packet", PACKETS, ids=[packet.summary() for packet in PACKETS])
def test_good_until_a_byte_changes(packet: ScapyPacket) -> None:
    data = bytes(packet)
    assert checksum(data) == GOOD
    assert checksum(data[:-1] + bytes([data[-1] ^ 1])) == BAD
    assert checksum(data + b"padding") == GOOD
    assert checksum(data[:-1], len(data)) == Unknown(Reason.TRUNCATED, "checksum")


ROWS = [
    ("a bad IPv4 header", HEADER4.copy() / TCP(), {10: 0, 11: 0}, BAD),
    (
        "a bad IPv4 header of a later fragment",
        IP(frag=4, src="192.0.2.1", dst="192.0.2.2", proto=17) / ODD,
        {10: 0},
        BAD,
    ),
    ("a later fragment", IP(frag=4, src="192.0.2.1", dst="192.0.2.2", proto=17) / ODD, {}, Reason.FRAGMENT),
    ("a later fragment of a protocol without one", IP(frag=4, src="192.0.2.1", proto=89) / ODD, {}, ABSENT),
    ("an atomic fragment", HEADER6 / IPv6ExtHdrFragment() / TCP(), {}, GOOD),
    ("UDP over IPv4 without one", HEADER4 / UDP(sport=1, dport=2, chksum=0), {}, ABSENT),
    ("UDP over IPv6 without one", HEADER6 / UDP(sport=1, dport=2, chksum=0), {}, BAD),
    ("UDP with bytes behind it", HEADER4 / UDP(sport=1, dport=2, len=8) / ODD, {26: 0, 27: 0}, ABSENT),
    ("a protocol without one", HEADER4.copy() / Raw(b"x"), {9: 0, 10: 0xF6, 11: 0xA4}, BAD),
    ("source routed, IPv4", IP(src="192.0.2.1", dst="192.0.2.2", options=[IPOption_LSRR()]) / TCP(), {}, "lie"),
    ("routed on, IPv6", HEADER6 / IPv6ExtHdrSegmentRouting(addresses=["2001:db8::3"], segleft=1) / TCP(), {}, ABSENT),
    ("at the end of its route", HEADER6 / IPv6ExtHdrRouting(type=4, segleft=0) / TCP(), {}, GOOD),
    ("a mobile node", HEADER6 / IPv6ExtHdrDestOpt(options=[HAO(hoa="2001:db8::9")]) / TCP(), {}, ABSENT),
    ("nothing but a header", HEADER6.copy(), {}, ABSENT),
]


@pytest.mark.parametrize(("packet", "bytes_at", "value"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_rows(packet: ScapyPacket, bytes_at: dict[int, int], value: object) -> None:
    data = bytearray(bytes(packet))
    for offset, byte in bytes_at.items():
        data[offset] = byte
    found = checksum(bytes(data))
    if isinstance(found, Unknown):
        assert (found.reason, value) in {(Reason.FRAGMENT, Reason.FRAGMENT), (Reason.MALFORMED, "lie")}
    else:
        assert found == value


def test_absent_while_the_hardware_is_to_fill_it_in() -> None:
    packet = Packet.from_bytes(ipv4(bytes(8), 17), hook="output")
    assert read(decode(packet), "checksum") == Unknown(Reason.MALFORMED, "udp-length")
    packet = Packet.from_bytes(bytes(PACKETS[0])[:-1] + b"x", hook="output")
    assert read(decode(packet), "checksum") == BAD
    assert read(decode(replace(packet, checksum_ready=False)), "checksum") is ABSENT


@pytest.mark.parametrize(("payload", "protocol"), [(b"x", 89), (b"", 6)])
def test_a_header_that_was_cut_may_be_bad(payload: bytes, protocol: int) -> None:
    whole = ipv4(payload, protocol, options=b"\x94\4\0\0")
    assert checksum(whole) == BAD
    assert checksum(whole[:22], len(whole)) == Unknown(Reason.TRUNCATED, "checksum")


def test_of_the_packet_inside() -> None:
    good, bad = bytes(PACKETS[0]), bytes(PACKETS[0])[:-1] + b"x"
    assert [read(decoded(ipv4(inner, 4)), "checksum", 1) for inner in (good, bad)] == [GOOD, BAD]


def test_icmp_of_zeros_has_no_right_sum() -> None:
    data = bytearray(bytes(HEADER4 / ICMP(type=0, chksum=0)))
    data[20:] = bytes(8)
    assert checksum(bytes(data)) == BAD


@given(st.binary(min_size=2, max_size=64))
def test_the_sum_that_makes_it_right(covered: bytes) -> None:
    """RFC 1071, word by word."""
    even = covered + b"\0" * (len(covered) % 2)
    total = sum(int.from_bytes(even[at : at + 2]) for at in range(0, len(even), 2)) + complement(covered)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF

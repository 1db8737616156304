"""One row for every way to lie, and for everything near it that is no lie."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfilter.engine.decode import decode
from qfilter.engine.readers import read, read_bytes
from qfilter.fields import FIELDS, MAX_DEPTH
from qfilter.model.hook import Hook
from qfilter.model.malformed import ALLOWABLE, Malformed
from qfilter.model.packet import Packet
from qfilter.model.rule import Base
from qfilter.model.verdict import Reason
from tests.unit.engine.wire import (
    AH,
    DCCP,
    DESTINATION,
    ESP,
    FRAGMENT,
    GRE,
    HBH,
    ICMP,
    ICMPV6,
    MOBILITY,
    NOTHING,
    ROUTING,
    SCTP,
    TCP,
    UDP,
    dccp,
    decoded,
    ext,
    frag,
    icmp,
    ipv4,
    ipv6,
    tcp,
    udp,
)

M = Malformed
AUTH = bytes([TCP, 1, 0, 0]) + bytes(8)


def chain(count: int) -> bytes:
    """`count` destination headers in front of TCP."""
    return ipv6(ext(DESTINATION) * (count - 1) + ext(TCP) + tcp(), DESTINATION)


LIES = [
    ("no bytes", b"", M.EMPTY),
    ("version 0", bytes(20), M.IP_VERSION),
    ("version 5", b"\x55" + bytes(39), M.IP_VERSION),
    # IPv4
    ("one byte", b"\x45", M.IPV4_HEADER_SHORT),
    ("19 bytes", ipv4()[:19], M.IPV4_HEADER_SHORT),
    ("header length 4 words", ipv4(tcp(), words=4), M.IPV4_HEADER_LENGTH),
    ("header length past the packet", ipv4(words=6), M.IPV4_HEADER_SHORT),
    ("total length below the header", ipv4(tcp(), total=19), M.IPV4_TOTAL_LENGTH),
    ("total length above the packet", ipv4(tcp(), total=41), M.IPV4_TOTAL_LENGTH),
    ("total length 0", ipv4(tcp(), total=0), M.IPV4_TOTAL_LENGTH),
    ("option of length 1", ipv4(tcp(), options=b"\x07\x01\0\0"), M.IPV4_OPTION),
    ("option past the header", ipv4(tcp(), options=b"\x07\x05\0\0"), M.IPV4_OPTION),
    ("option without its length", ipv4(tcp(), options=b"\x01\x01\x01\x07"), M.IPV4_OPTION),
    ("loose source route", ipv4(tcp(), options=b"\x83\x03\x04\0"), M.IPV4_SOURCE_ROUTE),
    ("strict source route", ipv4(tcp(), options=b"\x01\x89\x03\x04"), M.IPV4_SOURCE_ROUTE),
    ("a broken option behind a source route", ipv4(tcp(), options=b"\x83\x03\x04\x07"), M.IPV4_OPTION),
    ("fragment past 65,535", ipv4(bytes(8), UDP, offset=65512), M.IPV4_FRAGMENT),
    ("fragment of 9 bytes, more to come", ipv4(udp(b"x"), UDP, more=True), M.IPV4_FRAGMENT),
    ("fragment without data", ipv4(b"", UDP, offset=8), M.IPV4_FRAGMENT),
    # IPv6
    ("39 bytes", ipv6()[:39], M.IPV6_HEADER_SHORT),
    ("payload length above the packet", ipv6(tcp(), length=21), M.IPV6_PAYLOAD_LENGTH),
    ("payload length 0", ipv6(tcp(), length=0), M.IPV6_JUMBOGRAM),
    ("jumbo payload option", ipv6(ext(TCP, b"\xc2\x04\0\x01\0\0") + tcp(), HBH), M.IPV6_JUMBOGRAM),
    ("extension header of 4 bytes", ipv6(bytes(4), DESTINATION), M.IPV6_EXTENSION_LENGTH),
    ("extension header past the packet", ipv6(bytes([TCP, 1]) + bytes(13), DESTINATION), M.IPV6_EXTENSION_LENGTH),
    ("extension header that is not there", ipv6(b"", DESTINATION), M.IPV6_EXTENSION_LENGTH),
    ("17 extension headers", chain(17), M.IPV6_EXTENSION_COUNT),
    ("hop-by-hop second", ipv6(ext(HBH) + ext(TCP) + tcp(), DESTINATION), M.IPV6_EXTENSION_ORDER),
    ("hop-by-hop twice", ipv6(ext(HBH) + ext(TCP) + tcp(), HBH), M.IPV6_EXTENSION_ORDER),
    ("option past its header", ipv6(ext(TCP, b"\x01\x05\0\0\0\0") + tcp(), HBH), M.IPV6_EXTENSION_OPTION),
    ("option without its length", ipv6(ext(TCP, b"\0\0\0\0\0\x01") + tcp(), DESTINATION), M.IPV6_EXTENSION_OPTION),
    ("two fragment headers", ipv6(frag(FRAGMENT) + frag(TCP) + tcp(), FRAGMENT), M.IPV6_FRAGMENT_REPEATED),
    ("fragment past 65,535", ipv6(frag(UDP, 65528) + bytes(8), FRAGMENT), M.IPV6_FRAGMENT),
    ("fragment of 9 bytes, more to come", ipv6(frag(UDP, more=True) + udp(b"x"), FRAGMENT), M.IPV6_FRAGMENT),
    ("fragment without data", ipv6(frag(UDP, 8), FRAGMENT), M.IPV6_FRAGMENT),
    ("routing header type 0", ipv6(ext(TCP, bytes(6)) + tcp(), ROUTING), M.IPV6_ROUTING_TYPE_0),
    # the whole header chain stands in the first fragment (RFC 1858, RFC 7112)
    ("first fragment with half a TCP header", ipv4(tcp()[:16], more=True), M.FRAGMENT_SHORT),
    ("first fragment without TCP's options", ipv4(tcp(bytes(4), words=7), more=True), M.FRAGMENT_SHORT),
    (
        "first fragment that ends in its chain",
        ipv6(frag(DESTINATION, more=True) + b"\x06\x01" + bytes(6), FRAGMENT),
        M.FRAGMENT_SHORT,
    ),
    ("first fragment without layer 4", ipv6(frag(DESTINATION, more=True) + ext(TCP), FRAGMENT), M.FRAGMENT_SHORT),
    ("first fragment with half an AH", ipv6(frag(AH, more=True) + AUTH[:8], FRAGMENT), M.FRAGMENT_SHORT),
    ("TCP at offset 8, IPv4", ipv4(bytes(16), TCP, offset=8), M.FRAGMENT_SHORT),
    ("TCP at offset 8, IPv6", ipv6(frag(TCP, 8) + bytes(16), FRAGMENT), M.FRAGMENT_SHORT),
    # layer 4
    ("19 bytes of TCP", ipv4(tcp()[:19]), M.TRANSPORT_SHORT),
    ("7 bytes of UDP", ipv4(udp()[:7], UDP), M.TRANSPORT_SHORT),
    ("7 bytes of ICMP", ipv4(icmp()[:7], ICMP), M.TRANSPORT_SHORT),
    ("7 bytes of ICMPv6", ipv6(icmp()[:7], ICMPV6), M.TRANSPORT_SHORT),
    ("11 bytes of SCTP", ipv4(bytes(11), SCTP), M.TRANSPORT_SHORT),
    ("11 bytes of DCCP", ipv4(bytes(11), DCCP), M.TRANSPORT_SHORT),
    ("7 bytes of ESP", ipv4(bytes(7), ESP), M.TRANSPORT_SHORT),
    ("GRE without its key", ipv4(b"\x20\0\x08\0", GRE), M.TRANSPORT_SHORT),
    ("an atomic fragment is whole", ipv6(frag(TCP) + tcp()[:19], FRAGMENT), M.TRANSPORT_SHORT),
    ("data offset 4 words", ipv4(tcp(words=4)), M.TCP_DATA_OFFSET),
    ("data offset past the packet", ipv4(tcp(words=6)), M.TCP_DATA_OFFSET),
    ("TCP option of length 0", ipv4(tcp(options=b"\x02\0\0\0")), M.TCP_OPTION),
    ("TCP option past the header", ipv4(tcp(options=b"\x02\x05\0\0")), M.TCP_OPTION),
    ("no TCP flag", ipv4(tcp(flags=0)), M.TCP_FLAGS),
    ("ECN's flags alone", ipv4(tcp(flags=0xC0)), M.TCP_FLAGS),
    ("SYN and FIN", ipv4(tcp(flags=0x13)), M.TCP_FLAGS),
    ("SYN and RST", ipv6(tcp(flags=0x06)), M.TCP_FLAGS),
    ("xmas", ipv4(tcp(flags=0x29)), M.TCP_FLAGS),
    ("UDP length 0", ipv6(udp(length=0), UDP), M.UDP_LENGTH),
    ("UDP length 7", ipv4(udp(length=7), UDP), M.UDP_LENGTH),
    ("UDP length above IP's", ipv4(udp(length=9) + b"", UDP), M.UDP_LENGTH),
    ("bytes behind IP's length do not count", ipv4(udp(length=9), UDP) + b"x", M.UDP_LENGTH),
    ("TCP source port 0", ipv4(tcp(sport=0)), M.PORT_ZERO),
    ("UDP destination port 0", ipv6(udp(dport=0), UDP), M.PORT_ZERO),
    ("UDP-Lite port 0", ipv4(udp(sport=0), 136), M.PORT_ZERO),
    ("SCTP port 0", ipv4(bytes(12), SCTP), M.PORT_ZERO),
    ("DCCP port 0", ipv4(dccp(sport=0), DCCP), M.PORT_ZERO),
    ("ICMP in IPv6", ipv6(icmp(), ICMP), M.ICMP_FAMILY),
    ("ICMPv6 in IPv4", ipv4(icmp(), ICMPV6), M.ICMP_FAMILY),
    ("a later fragment of ICMPv6 in IPv4", ipv4(bytes(8), ICMPV6, offset=8), M.ICMP_FAMILY),
    ("ICMP family comes before a short header", ipv6(b"x", ICMP), M.ICMP_FAMILY),
    ("DCCP offset below the header", ipv4(dccp(words=3), DCCP), M.DCCP_DATA_OFFSET),
    ("DCCP offset below what a reset has", ipv4(dccp(7, words=6, size=28), DCCP), M.DCCP_DATA_OFFSET),
    ("DCCP offset past the packet", ipv4(dccp(words=5), DCCP), M.DCCP_DATA_OFFSET),
    ("11 bytes of AH in a chain", ipv6(AUTH[:11], AH), M.AH_LENGTH),
    ("AH of 8 bytes", ipv6(b"\x06\0" + AUTH[2:] + tcp(), AH), M.AH_LENGTH),
    ("AH past the packet", ipv4(b"\x06\x02" + AUTH[2:], AH), M.AH_LENGTH),
    # the first lie in the packet's order is its code
    ("SYN and FIN to port 0", ipv4(tcp(dport=0, flags=3)), M.PORT_ZERO),
    (
        "17 headers, the last one hop-by-hop",
        ipv6(ext(DESTINATION) * 15 + ext(HBH) + ext(TCP), DESTINATION),
        M.IPV6_EXTENSION_COUNT,
    ),
]


@pytest.mark.parametrize(("data", "code"), [row[1:] for row in LIES], ids=[f"{row[2]}: {row[0]}" for row in LIES])
def test_a_lie(data: bytes, code: Malformed) -> None:
    assert decoded(data).malformed is code


def test_every_code_has_a_row() -> None:
    assert {row[2] for row in LIES} == set(Malformed)


SOUND = [
    ("nothing but an IPv4 header", ipv4(), None),
    ("nothing but an IPv6 header", ipv6(), None),
    ("nothing behind the chain", ipv6(ext(TCP), DESTINATION), None),
    ("no next header", ipv6(b"ignored", NOTHING), None),
    ("bytes behind the total length", ipv4(tcp()) + b"padding", 20),
    ("16 extension headers", chain(16), 40 + 16 * 8),
    ("hop-by-hop first", ipv6(ext(TCP) + tcp(), HBH), 48),
    ("an atomic fragment", ipv6(frag(TCP) + tcp(), FRAGMENT), 48),
    ("a chain behind an atomic fragment", ipv6(frag(DESTINATION) + ext(TCP) + tcp(), FRAGMENT), 56),
    ("AH in the chain", ipv6(AUTH + tcp(), AH), 52),
    ("AH in IPv4 is layer 4", ipv4(AUTH + tcp(), AH), 20),
    ("ESP ends the chain", ipv6(ext(ESP) + bytes(8), DESTINATION), 48),
    ("mobility is layer 4", ipv6(ext(NOTHING), MOBILITY), 40),
    ("a first fragment with its whole header", ipv4(tcp(bytes(4)), more=True), 20),
    ("a first UDP fragment claims more than it carries", ipv4(udp(length=2000), UDP, more=True), 20),
    ("an end of options stops the walk", ipv4(tcp(), options=b"\0\x07\x01\x83"), 24),
    ("a UDP length below IP's", ipv4(udp(length=8) + b"rest", UDP), 20),
    ("SYN with ECN", ipv4(tcp(flags=0xC2)), 20),
    ("FIN, PSH, URG and ACK", ipv4(tcp(flags=0x39)), 20),
    ("DCCP with short sequence numbers", ipv4(dccp(2, extended=False, words=3, size=12), DCCP), 20),
    ("a protocol that qfilter does not know", ipv4(b"x", 89), 20),
]


@pytest.mark.parametrize(("data", "transport"), [row[1:] for row in SOUND], ids=[row[0] for row in SOUND])
def test_no_lie(data: bytes, transport: int | None) -> None:
    found = decoded(data)
    assert (found.malformed, found.transport_offset) == (None, transport)


@pytest.mark.parametrize("code", ALLOWABLE)
def test_what_a_policy_allows_gets_on(code: Malformed) -> None:
    rows = [data for _, data, lie in LIES if lie is code]
    assert [decoded(data, None, code).malformed for data in rows] == [None] * len(rows)


def test_only_what_may_be_allowed_is_asked_for() -> None:
    assert decoded(ipv4(tcp(sport=0, flags=0)), None, *ALLOWABLE).malformed is M.PORT_ZERO


BIG = 70_000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ipv4(tcp(), total=0), None),
        (ipv6(tcp(), length=0), None),
        (ipv4(udp(), UDP, total=0), M.IPV4_TOTAL_LENGTH),
        (ipv6(udp(), UDP, length=0), M.IPV6_JUMBOGRAM),
        (ipv4(tcp(), total=0, more=True), M.IPV4_TOTAL_LENGTH),
        (ipv6(ext(TCP, b"\xc2\x04\0\x01\0\0") + tcp(), HBH, length=0), M.IPV6_JUMBOGRAM),
    ],
)
def test_big_tcp_has_length_0(data: bytes, code: Malformed | None) -> None:
    assert decoded(data, BIG).malformed is code


def test_the_kernel_copied_less() -> None:
    """Every length of the copy: never a lie, and layer 4 known exactly when its fixed header is here."""
    for whole, needed in (
        (ipv4(tcp(b"GET", options=b"\x01" * 8), options=b"\x94\x04\0\0"), 44),
        (chain(3), 40 + 24 + 20),
    ):
        for size in range(1, len(whole)):
            found = decoded(whole[:size], len(whole))
            assert (found.malformed, "dport" in found.values) == (None, size >= needed), size
            assert found.cut is Reason.TRUNCATED or size >= len(whole) - len(b"GET")


def test_a_packet_without_any_byte_copied_is_empty() -> None:
    assert decoded(b"", 40).malformed is M.EMPTY


def test_a_lie_in_a_cut_packet_is_a_lie() -> None:
    assert decoded(ipv4(tcp(bytes(9)), total=51)[:40], 49).malformed is M.IPV4_TOTAL_LENGTH
    assert decoded(ipv4(tcp(options=b"\x02\x04\0\0\x03\0\0\0"))[:46], 48).malformed is M.TCP_OPTION


def test_what_was_read_before_the_lie_stays_for_events() -> None:
    found = decoded(ipv4(tcp(sport=0)))
    assert (str(read(found, "saddr")), read(found, "sport"), read(found, "dport")) == ("192.0.2.1", 0, 80)


NUMBERS = st.sampled_from([0, 1, 4, 6, 17, 33, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255])
HEADERS = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda number, rest: bytes([number]) + rest, NUMBERS, st.binary(min_size=7, max_size=7)),
    st.just(tcp()),
    st.just(udp(dport=4789) + bytes(8) + bytes(12) + b"\x08\0"),
    st.just(b"\0\0\x08\0"),
    st.just(ipv4(b"", 4)),
)
PACKETS = st.builds(
    lambda rest, number, family, cut: (ipv4(rest, number) if family else ipv6(rest, number))[:cut],
    st.lists(HEADERS, max_size=6).map(b"".join),
    NUMBERS,
    st.booleans(),
    st.integers(0, 300),
)


@settings(max_examples=5_000)
@given(
    data=st.one_of(PACKETS, st.binary(max_size=120)),
    more=st.sampled_from([0, 0, 1, 100, 70_000]),
    allow=st.sets(st.sampled_from(ALLOWABLE)),
    offset=st.integers(0, 80),
)
def test_no_bytes_raise(data: bytes, more: int, allow: set[Malformed], offset: int) -> None:
    packet = Packet(data=data, hook=Hook.INPUT, wire_length=len(data) + more)
    found = decode(packet, frozenset(allow))
    assert found == decode(packet, frozenset(allow))
    for field in FIELDS:
        for depth in range(MAX_DEPTH + 1):
            read(found, field, depth)
    for base in Base:
        read_bytes(found, base, offset, 4)

"""`inner.`: what is inside a tunnel, and when that cannot be said."""

from __future__ import annotations

import pytest

from qfilter.engine.readers import read
from qfilter.engine.value import ABSENT, Unknown
from qfilter.fields import MAX_DEPTH
from qfilter.model.verdict import Reason
from tests.unit.engine.wire import FRAGMENT, GRE, IPIP, SIXINFOUR, UDP, decoded, frag, ipv4, ipv6, tcp, udp

INNER = ipv4(tcp(dport=443))
INNER6 = ipv6(tcp(dport=444))
ETHERNET = bytes(12)


def vxlan(frame: bytes) -> bytes:
    return ipv4(udp(b"\x08" + bytes(7) + frame, dport=4789), UDP)


TUNNELS = [
    ("IPIP", ipv4(INNER, IPIP), 443),
    ("6in4", ipv4(INNER6, SIXINFOUR), 444),
    ("4in6", ipv6(INNER, IPIP), 443),
    ("6in6", ipv6(INNER6, SIXINFOUR), 444),
    ("GRE", ipv4(b"\0\0\x08\0" + INNER, GRE), 443),
    ("GRE with checksum, key and sequence", ipv4(b"\xb0\0\x86\xdd" + bytes(12) + INNER6, GRE), 444),
    ("GRE with Ethernet", ipv6(b"\0\0\x65\x58" + ETHERNET + b"\x08\0" + INNER, GRE), 443),
    ("VXLAN", vxlan(ETHERNET + b"\x86\xdd" + INNER6), 444),
    ("VXLAN with a VLAN", vxlan(ETHERNET + b"\x81\0\0\x05\x08\0" + INNER), 443),
    ("VXLAN with two VLANs", vxlan(ETHERNET + b"\x88\xa8\0\x05\x81\0\0\x05\x08\0" + INNER), 443),
    ("VXLAN with nine VLANs", vxlan(ETHERNET + b"\x81\0\0\x05" * 9 + b"\x08\0" + INNER), 443),
]


@pytest.mark.parametrize(("data", "port"), [row[1:] for row in TUNNELS], ids=[row[0] for row in TUNNELS])
def test_a_tunnel(data: bytes, port: int) -> None:
    found = decoded(data)
    assert (read(found, "dport", 1), read(found, "protocol", 1)) == (port, 6)
    assert read(found, "dport", 2) is ABSENT


NO_TUNNELS = [
    ("TCP", ipv4(tcp())),
    ("nothing behind the header", ipv4(b"", IPIP)),
    ("a later fragment of TCP", ipv4(bytes(8), offset=16)),
    ("UDP to another port", ipv4(udp(INNER), UDP)),
    ("a first fragment of UDP to another port", ipv4(udp(bytes(8)), UDP, more=True)),
    ("GRE that carries PPP", ipv4(b"\0\0\x88\x0b" + INNER, GRE)),
    ("GRE version 1", ipv4(b"\0\x01\x08\0" + INNER, GRE)),
    ("GRE with source routes", ipv4(b"\x40\0\x08\0" + INNER, GRE)),
    ("VXLAN that carries ARP", vxlan(ETHERNET + b"\x08\x06" + bytes(28))),
]


@pytest.mark.parametrize("data", [row[1] for row in NO_TUNNELS], ids=[row[0] for row in NO_TUNNELS])
def test_no_tunnel(data: bytes) -> None:
    assert read(decoded(data), "dport", 1) is ABSENT


UNKNOWN = [
    ("the inner one lies", ipv4(ipv4(tcp(sport=0)), IPIP), Unknown(Reason.MALFORMED, "port-zero")),
    ("the inner one is longer", ipv4(INNER[:-1], IPIP), Unknown(Reason.MALFORMED, "ipv4-total-length")),
    ("the inner one is of the other family", ipv4(INNER6, IPIP), Unknown(Reason.MALFORMED, "ip-version")),
    ("the GRE header is all", ipv4(b"\0\0\x08\0", GRE), Unknown(Reason.MALFORMED, "empty")),
    ("half an Ethernet header", vxlan(bytes(13)), Unknown(Reason.MALFORMED, "transport-short")),
    ("a VLAN without its frame", vxlan(ETHERNET + b"\x81\0\0\x05" * 3), Unknown(Reason.MALFORMED, "transport-short")),
    (
        "the inner one is longer than UDP says",
        ipv4(udp(bytes(20) + b"\x08\0" + INNER, dport=4789, length=40), UDP),
        Unknown(Reason.MALFORMED, "ipv4-header-short"),
    ),
    ("the outer one lies", ipv4(udp(dport=4789, sport=0), UDP), Unknown(Reason.MALFORMED, "port-zero")),
    ("a first fragment", ipv4(INNER, IPIP, more=True), Unknown(Reason.FRAGMENT, "inner.dport")),
    ("a later fragment of a tunnel", ipv4(INNER, IPIP, offset=8), Unknown(Reason.FRAGMENT, "inner.dport")),
    ("a later fragment that may be VXLAN", ipv4(bytes(8), UDP, offset=8), Unknown(Reason.FRAGMENT, "inner.dport")),
    (
        "a later fragment of anything",
        ipv6(frag(60, 8) + bytes(8), FRAGMENT),
        Unknown(Reason.FRAGMENT, "inner.dport"),
    ),
]


@pytest.mark.parametrize(("data", "value"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_unknown(data: bytes, value: Unknown) -> None:
    assert read(decoded(data), "dport", 1) == value


@pytest.mark.parametrize("size", [20, 39, 44, 59])
def test_the_copy_ends_inside(size: int) -> None:
    data = ipv4(INNER, IPIP)
    assert read(decoded(data[:size], len(data)), "dport", 1) == Unknown(Reason.TRUNCATED, "inner.dport")
    data = TUNNELS[-1][1]
    assert read(decoded(data[:size], len(data)), "dport", 1) == Unknown(Reason.TRUNCATED, "inner.dport")


def test_the_outer_packet_is_not_malformed_for_the_inner_one() -> None:
    found = decoded(ipv4(ipv4(tcp(sport=0)), IPIP))
    assert (found.malformed, read(found, "protocol")) == (None, IPIP)


def test_tunnels_in_tunnels() -> None:
    data = INNER
    for _ in range(MAX_DEPTH):
        data = ipv4(data, IPIP)
    found = decoded(data)
    assert [read(found, "protocol", depth) for depth in range(MAX_DEPTH + 1)] == [IPIP] * MAX_DEPTH + [6]
    assert read(found, "family", MAX_DEPTH) == 2
    assert read(found, "dport", MAX_DEPTH) == 443

"""What each field of the table reads as: a value, absent, unknown, or known in part."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from ipaddress import ip_address

import pytest

from qfilter.engine.clock import Clock
from qfilter.engine.decode import Decoded, decode
from qfilter.engine.readers import read, read_bytes
from qfilter.engine.value import ABSENT, Partial, Unknown, Value
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
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

CLOCK = Clock(wall=lambda: 1_700_000_000.0, timezone=UTC)  # a Tuesday, 22:13 in Greenwich
PACKET = Packet(
    data=ipv4(tcp()),
    hook=Hook.FORWARD,
    wire_length=40,
    iifname="eth0",
    oifname="eth1",
    physin="port0",
    physout="port1",
    mark=7,
    uid=0,
    gid=100,
    ct_state=2,
    ct_mark=9,
    hwaddr=bytes.fromhex("02005e005301"),
)
BARE = Packet.from_bytes(ipv4(), hook="input")
MSS = b"\x01\x02\x04\x05\xb4\0\0\0"

VALUES: dict[str, tuple[Packet | bytes, Value]] = {
    "hook": (PACKET, 2),
    "family": (PACKET, 2),
    "iifname": (PACKET, "eth0"),
    "oifname": (PACKET, "eth1"),
    "physin": (PACKET, "port0"),
    "physout": (PACKET, "port1"),
    "mark": (PACKET, 7),
    "length": (PACKET, 40),
    "uid": (PACKET, 0),
    "gid": (PACKET, 100),
    "ct.state": (PACKET, 2),
    "ct.mark": (PACKET, 9),
    "hwaddr": (PACKET, "02:00:5e:00:53:01"),
    "hour": (replace(PACKET, timestamp=3600.0), 1),
    "weekday": (replace(PACKET, timestamp=3 * 86400.0), 0),
    "saddr": (ipv6(), ip_address("2001:db8::1")),
    "daddr": (ipv4(), ip_address("198.51.100.1")),
    "protocol": (ipv6(ext(UDP) + udp(), DESTINATION), UDP),
    "ttl": (ipv6(), 64),
    "dscp": (b"\x45\xb9" + ipv4()[2:], 46),
    "ecn": (b"\x45\xb9" + ipv4()[2:], 1),
    "fragment": (ipv4(bytes(8), UDP, offset=8), 2),
    "ip.id": (ipv4(), 7),
    "ip.df": (ipv4()[:6] + b"\x40" + ipv4()[7:], 1),
    "ip.options": (ipv4(options=b"\x94\x04\0\0\x01\x01\x01\0"), (148, 1, 1, 1, 0)),
    "ip6.flowlabel": (b"\x60\x0f\xff\xff" + ipv6()[4:], 0xFFFFF),
    "ip6.exthdrs": (ipv6(ext(FRAGMENT) + frag(TCP) + tcp(), HBH), (0, 44)),
    "ip6.routing": (ipv6(ext(TCP, b"\x04\0\0\0\0\0") + tcp(), ROUTING), (4,)),
    "checksum": (ipv4(tcp()), 1),
    "sport": (ipv4(dccp(), DCCP), 5),
    "dport": (ipv6(b"\0\x05\0\x06" + bytes(8), SCTP), 6),
    "tcp.flags": (ipv4(tcp(flags=0x12)), 0x12),
    "tcp.seq": (ipv4(tcp()), 9),
    "tcp.window": (ipv4(tcp()), 512),
    "tcp.mss": (ipv4(tcp(options=MSS)), 1460),
    "tcp.options": (ipv4(tcp(options=MSS)), (1, 2, 0)),
    "udp.length": (ipv4(udp(b"x"), UDP), 9),
    "icmp.type": (ipv4(icmp(3, 1), ICMP), 3),
    "icmp.code": (ipv4(icmp(3, 1), ICMP), 1),
    "icmpv6.type": (ipv6(icmp(1, 4), ICMPV6), 1),
    "icmpv6.code": (ipv6(icmp(1, 4), ICMPV6), 4),
    "ah.spi": (ipv6(b"\x06\x01\0\0\0\0\0\x09\0\0\0\0" + tcp(), AH), 9),
    "esp.spi": (ipv4(b"\0\0\0\x08" + bytes(4), ESP), 8),
    "gre.protocol": (ipv4(b"\0\0\x08\0", GRE), 0x0800),
    "gre.key": (ipv4(b"\xb0\0\x88\xb5" + bytes(4) + b"\0\0\0\x07" + bytes(4), GRE), 7),
    "payload": (ipv4(udp(b"GET"), UDP), b"GET"),
}

ALWAYS = {"hook", "family", "mark", "length", "hour", "weekday"} | {
    "saddr", "daddr", "protocol", "ttl", "dscp", "ecn", "fragment", "payload",
}  # fmt: skip

LACKING: dict[str, Packet | bytes] = {
    "ip.id": ipv6(),
    "ip.df": ipv6(),
    "ip.options": ipv6(),
    "ip6.flowlabel": ipv4(),
    "ip6.exthdrs": ipv4(),
    "ip6.routing": ipv4(),
    "icmp.type": ipv6(icmp(), ICMPV6),
    "icmpv6.type": ipv4(icmp(), ICMP),
    "tcp.mss": ipv4(tcp()),
    "gre.key": ipv4(b"\0\0\x08\0", GRE),
    "checksum": ipv6(bytes(8), 253),
}


def of(what: Packet | bytes) -> Decoded:
    return decode(Packet.from_bytes(what, hook="input") if isinstance(what, bytes) else what)


@pytest.mark.parametrize("field", FIELDS)
def test_a_value(field: str) -> None:
    packet, value = VALUES[field]
    assert read(of(packet), field, clock=CLOCK) == value


@pytest.mark.parametrize("field", sorted(set(FIELDS) - ALWAYS))
def test_absent(field: str) -> None:
    assert read(of(LACKING.get(field, BARE)), field) is ABSENT


@pytest.mark.parametrize("field", sorted(ALWAYS))
def test_never_absent(field: str) -> None:
    assert not isinstance(read(of(BARE), field, clock=CLOCK), Unknown | type(ABSENT))


def test_no_timestamp_is_now() -> None:
    assert (read(of(BARE), "hour", clock=CLOCK), read(of(BARE), "weekday", clock=CLOCK)) == (22, 2)


@pytest.mark.parametrize("timestamp", [1e300, float("nan"), float("inf"), -1e18])
def test_a_timestamp_that_is_no_time(timestamp: float) -> None:
    value = read(of(replace(BARE, timestamp=timestamp)), "hour")
    assert value == Unknown(Reason.ERROR, f"timestamp {timestamp!r} is no time")


TWO_AH = b"\x33\x01\0\0\0\0\0\x01\0\0\0\0" + b"\x06\x01\0\0\0\0\0\x02\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "field", "value"),
    [
        (ipv6(TWO_AH + tcp(), AH), "ah.spi", 1),
        (ipv4(tcp(options=b"\x02\x04\0\x01\x02\x04\0\x02")), "tcp.mss", 1),
        (ipv4(tcp(options=b"\x02\x03\x01\x02\x04\0\x02\0")), "tcp.mss", 2),
        (ipv6(ext(ESP) + bytes(8), DESTINATION), "ip6.exthdrs", (60, 50)),
        # words of GRE that only version 0 without source routes has
        (ipv4(b"\x20\x01\x88\x0b" + bytes(4), GRE), "payload", bytes(4)),
        (ipv4(b"\x60\0\x08\0" + bytes(4), GRE), "gre.key", ABSENT),
    ],
)
def test_of_several_the_first_that_is_right(data: bytes, field: str, value: object) -> None:
    assert read(of(data), field) == value


def test_options_that_are_not_there_are_none_of_several() -> None:
    """`{not: ...}` of a field with several values is true when none matches, so none must not read as absent."""
    v4, v6 = of(ipv4(tcp())), of(ipv6())
    assert [read(v4, "ip.options"), read(v4, "tcp.options")] == [(), ()]
    assert [read(v6, "ip6.exthdrs"), read(v6, "ip6.routing")] == [(), ()]


FRAGMENTS = [
    # of a later fragment the ports are unknown where its protocol has ports
    ("udp, v4", ipv4(bytes(8), UDP, offset=8), {"sport": "fragment", "icmp.type": None, "tcp.flags": None}),
    ("icmp, v4", ipv4(bytes(8), ICMP, offset=8), {"sport": None, "icmp.type": "fragment", "payload": "fragment"}),
    ("udp, v6", ipv6(frag(UDP, 8) + bytes(8), FRAGMENT), {"sport": "fragment", "icmpv6.type": None, "ah.spi": None}),
    # where the chain goes on in the first fragment nobody knows the protocol, but icmp is no IPv6 protocol
    (
        "chain, v6",
        ipv6(frag(DESTINATION, 8) + bytes(8), FRAGMENT),
        {
            "protocol": "fragment",
            "sport": "fragment",
            "icmpv6.type": "fragment",
            "icmp.type": None,
            "ah.spi": "fragment",
        },
    ),
    ("first", ipv6(frag(UDP, more=True) + udp(), FRAGMENT), {"checksum": "fragment"}),
]


@pytest.mark.parametrize(("data", "fields"), [row[1:] for row in FRAGMENTS], ids=[row[0] for row in FRAGMENTS])
def test_fragments(data: bytes, fields: dict[str, str | None]) -> None:
    found = of(data)
    for field, reason in fields.items():
        assert read(found, field) == (ABSENT if reason is None else Unknown(Reason(reason), field)), field


def test_a_later_fragment_s_chain_is_known_in_part() -> None:
    found = of(ipv6(ext(FRAGMENT) + frag(DESTINATION, 8) + bytes(8), HBH))
    assert read(found, "ip6.exthdrs") == Partial((0, 44, 60), None, Unknown(Reason.FRAGMENT, "ip6.exthdrs"))
    assert read(found, "fragment") == 2


def test_the_copy_ends_in_the_chain() -> None:
    whole = ipv6(ext(DESTINATION) + ext(TCP) + tcp(), HBH)
    found = decoded(whole[:50], len(whole))
    assert read(found, "ip6.exthdrs") == Partial((0, 60), None, Unknown(Reason.TRUNCATED, "ip6.exthdrs"))
    for field in ("protocol", "sport", "fragment", "payload", "icmpv6.type"):
        assert read(found, field) == Unknown(Reason.TRUNCATED, field)
    assert read(found, "icmp.type") is ABSENT
    assert read(found, "ttl") == 64


def test_the_copy_ends_in_options() -> None:
    whole = ipv4(tcp(options=b"\x01\x08\x0a" + bytes(8) + MSS[1:5] + b"\0"))
    found = decoded(whole[:48], len(whole))
    assert read(found, "tcp.options") == Partial((1, 8), None, Unknown(Reason.TRUNCATED, "tcp.options"))
    assert (read(found, "tcp.mss"), read(found, "dport")) == (Unknown(Reason.TRUNCATED, "tcp.mss"), 80)
    whole = ipv4(tcp(options=b"\x02\x06\0\x01\0\0\0\0"))
    assert read(decoded(whole[:44], len(whole)), "tcp.mss") == Unknown(Reason.TRUNCATED, "tcp.mss")
    whole = ipv4(tcp(), options=b"\x01\x94\x04\0\0\0\0\0")
    found = decoded(whole[:22], len(whole))
    assert read(found, "ip.options") == Partial((1, 148), None, Unknown(Reason.TRUNCATED, "ip.options"))
    assert (read(found, "protocol"), read(found, "dport")) == (TCP, Unknown(Reason.TRUNCATED, "dport"))


def test_a_cut_payload_has_its_length() -> None:
    whole = ipv4(udp(b"GET / HTTP"), UDP)
    assert read(decoded(whole[:-6], len(whole)), "payload") == Partial(
        b"GET ", 10, Unknown(Reason.TRUNCATED, "payload")
    )
    first = ipv4(udp(b"GET / 11"), UDP, more=True)
    assert read(of(first), "payload") == Partial(b"GET / 11", None, Unknown(Reason.FRAGMENT, "payload"))
    cut = decoded(first[:-4], len(first))
    assert read(cut, "payload") == Partial(b"GET ", None, Unknown(Reason.TRUNCATED, "payload"))


def test_padding_is_no_payload() -> None:
    assert read(of(ipv4(udp(b"GET"), UDP) + bytes(18)), "payload") == b"GET"


WHOLE, FIRST = ipv4(udp(b"GET"), UDP), ipv4(udp(bytes(8)), UDP, more=True)
BYTES = [
    (WHOLE, Base.NETWORK, 8, 2, b"\x40\x11"),
    (WHOLE, Base.TRANSPORT, 2, 2, b"\0\x35"),
    (WHOLE, Base.PAYLOAD, 1, 2, b"ET"),
    (WHOLE, Base.PAYLOAD, 2, 2, ABSENT),
    (WHOLE + b"padding", Base.PAYLOAD, 2, 2, ABSENT),
    (ipv4(), Base.TRANSPORT, 0, 1, ABSENT),
    (ipv4(), Base.NETWORK, -1, 1, ABSENT),
    (FIRST, Base.PAYLOAD, 4, 8, Unknown(Reason.FRAGMENT, "payload + 4")),
    (ipv4(bytes(8), UDP, offset=8), Base.TRANSPORT, 0, 1, Unknown(Reason.FRAGMENT, "transport + 0")),
    (ipv4(bytes(8), UDP, offset=8), Base.NETWORK, 20, 1, b"\0"),
    (ipv4(tcp(sport=0)), Base.NETWORK, 0, 1, Unknown(Reason.MALFORMED, "port-zero")),
]


@pytest.mark.parametrize(("data", "base", "offset", "size", "value"), BYTES)
def test_bytes(data: bytes, base: Base, offset: int, size: int, value: object) -> None:
    assert read_bytes(of(data), base, offset, size) == value


def test_bytes_that_were_not_copied() -> None:
    found = decoded(WHOLE[:29], len(WHOLE))
    assert read_bytes(found, Base.PAYLOAD, 0, 1) == b"G"
    assert read_bytes(found, Base.PAYLOAD, 0, 2) == Unknown(Reason.TRUNCATED, "payload + 0")
    assert read_bytes(decoded(WHOLE[:24], len(WHOLE)), Base.PAYLOAD, 0, 1) == Unknown(Reason.TRUNCATED, "payload + 0")


def test_the_mark_is_that_of_the_packet_as_it_is_now() -> None:
    found = of(PACKET)
    assert read(replace(found, packet=replace(PACKET, mark=9)), "mark") == 9

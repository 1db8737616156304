"""Packets from fields: what is asked for reads back, the rest is harmless, and nonsense is refused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.build import build
from qfilter.engine.checksum import GOOD
from qfilter.engine.decode import decode
from qfilter.engine.described import from_bytes, from_hex
from qfilter.engine.readers import read
from qfilter.engine.value import ABSENT, Partial
from qfilter.errors import PacketError
from qfilter.fields import BUILDABLE, FIELDS, Type
from qfilter.model.malformed import Malformed

ROWS: list[tuple[dict[str, object], dict[str, object]]] = [
    # defaults
    ({}, {"saddr": ip_address("192.0.2.1"), "protocol": 253, "length": 20, "sport": ABSENT, "iifname": ABSENT}),
    ({"protocol": "tcp"}, {"sport": 49152, "dport": 49152, "tcp.flags": 2, "ttl": 64, "checksum": GOOD}),
    ({"icmp.type": "echo-request"}, {"protocol": 1, "icmp.code": 0, "checksum": GOOD}),
    ({"icmpv6.code": 0}, {"protocol": 58, "icmpv6.type": 128, "saddr": ip_address("2001:db8::1"), "checksum": GOOD}),
    ({"saddr": "2001:db8::7"}, {"daddr": ip_address("2001:db8::2"), "family": 10, "ip6.exthdrs": ()}),
    # the protocol follows
    ({"tcp.flags": "syn,ack", "dport": 80}, {"protocol": 6, "tcp.flags": 18, "dport": 80}),
    ({"udp.length": 8, "sport": 53}, {"protocol": 17, "sport": 53}),
    ({"gre.key": 5}, {"protocol": 47, "gre.protocol": 0x88B5}),
    ({"ah.spi": 5}, {"protocol": 51}),
    ({"ah.spi": 5, "family": "ipv6"}, {"protocol": 59, "ip6.exthdrs": (51,)}),
    # each field by name and number
    ({"hook": "output", "uid": 0, "gid": 7, "oifname": "eth0"}, {"hook": 3, "uid": 0, "gid": 7, "oifname": "eth0"}),
    ({"iifname": "eth0", "physin": "p0", "physout": "p1", "mark": "0x10"}, {"physin": "p0", "mark": 16}),
    ({"ct.state": "established", "ct.mark": "0xff"}, {"ct.state": 2, "ct.mark": 255}),
    ({"ct.state": 1}, {"ct.state": 1, "ct.mark": ABSENT}),
    ({"ct.mark": 0}, {"ct.state": ABSENT, "ct.mark": 0}),
    ({"hwaddr": "02:00:5e:00:53:01"}, {"hwaddr": "02:00:5e:00:53:01"}),
    ({"hour": 3, "weekday": "monday"}, {"hour": 3, "weekday": 1}),
    ({"dscp": "ef", "ecn": "ce", "ttl": 1}, {"dscp": 46, "ecn": 3, "ttl": 1}),
    ({"ip.id": 9, "ip.df": 1, "ip.options": ["ra", "nop"]}, {"ip.options": (148, 1, 0)}),
    ({"ip6.flowlabel": 9, "ip6.routing": 2, "protocol": "udp"}, {"ip6.exthdrs": (43,), "checksum": GOOD}),
    ({"ip6.exthdrs": "hbh,dst,auth", "dport": 80, "protocol": "tcp"}, {"ah.spi": 1, "checksum": GOOD}),
    ({"ip6.exthdrs": "frag", "protocol": "tcp"}, {"fragment": 0, "checksum": GOOD}),
    ({"protocol": 132, "dport": 9}, {"sport": 49152}),
    ({"protocol": "dccp", "dport": 9}, {"sport": 49152}),
    ({"protocol": "udplite", "payload": "x"}, {"payload": b"x"}),
    ({"tcp.mss": 500, "tcp.seq": 1, "tcp.window": 2}, {"tcp.options": (2,)}),
    ({"tcp.options": ["nop", "maxseg"]}, {"tcp.mss": 1460}),
    ({"esp.spi": 5, "length": 100}, {"payload": bytes(72)}),
    ({"payload": {"hex": "de ad"}, "protocol": "udp"}, {"payload": b"\xde\xad", "udp.length": 10}),
    ({"checksum": "bad", "protocol": "udp"}, {"checksum": 1}),
    ({"checksum": "good", "protocol": "icmp"}, {"checksum": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), ROWS)
def test_what_was_asked_for(fields: dict[str, object], expected: dict[str, object]) -> None:
    found = decode(build({"hook": "forward", **fields}))
    assert found.malformed is None
    assert {field: read(found, field) for field in expected} == expected
    plain = {field: value for field, value in fields.items() if isinstance(value, int) and not FIELDS[field].many}
    assert {field: read(found, field) for field in plain} == plain


def test_every_field_can_be_asked_for() -> None:
    assert {field for fields, _ in ROWS for field in fields} | {"daddr", "fragment", "icmpv6.type", "icmp.code"} | {
        "gre.protocol"
    } == BUILDABLE


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", 253])
def test_fragments(family: str, protocol: object) -> None:
    common = {"hook": "input", "family": family, "protocol": protocol}
    first = decode(build({**common, "fragment": "first", "payload": "GET"}))
    assert (first.malformed, read(first, "fragment")) == (None, 1)
    payload = read(first, "payload")
    assert isinstance(payload, Partial)
    assert payload.known[:3] == b"GET"
    later = decode(build({**common, "fragment": "later"}))
    assert (later.malformed, read(later, "fragment"), read(later, "protocol")) == (None, 2, read(first, "protocol"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dport": 0, "protocol": "tcp"}, Malformed.PORT_ZERO),
        ({"tcp.flags": ["syn", "fin"]}, Malformed.TCP_FLAGS),
        ({"udp.length": 3}, Malformed.UDP_LENGTH),
        ({"ip.options": "lsrr"}, Malformed.IPV4_SOURCE_ROUTE),
        ({"ip6.routing": 0}, Malformed.IPV6_ROUTING_TYPE_0),
        ({"ip6.exthdrs": "dst,hbh"}, Malformed.IPV6_EXTENSION_ORDER),
    ],
)
def test_a_lie_is_built_as_asked(fields: dict[str, object], code: Malformed) -> None:
    assert decode(build({"hook": "input", **fields})).malformed is code


REFUSED = [
    ({"hook": None}, "hook None: expected 0 to 4, or one of prerouting, input, forward, output, postrouting"),
    ({"inner.dport": 1}, "'inner.dport': expected a field that a packet can be built from"),
    ({"dport": 80}, "dport: expected a protocol too, one of tcp, udp, dccp, sctp, udplite"),
    ({"dport": 70000}, "dport 70000: expected 0 to 65535 or a name for it"),
    ({"dport": True}, "dport True: expected 0 to 65535 or a name for it"),
    ({"dport": "0x"}, "dport '0x': expected 0 to 65535 or a name for it"),
    ({"ttl": "²"}, "ttl '²': expected 0 to 255"),
    ({"saddr": "192.0.2.0/24"}, "saddr '192.0.2.0/24': expected an IPv4 or IPv6 address"),
    ({"saddr": 5}, "saddr 5: expected an IPv4 or IPv6 address"),
    ({"iifname": 5}, "iifname 5: expected a name"),
    (
        {"ct.state": "untracked"},
        "ct.state 'untracked': expected 1 to 8, or one of invalid, established, related, new",
    ),
    ({"ct.mark": 1 << 32}, "ct.mark 4294967296: expected 0 to 4294967295"),
    ({"oifname": "eth0"}, "oifname 'eth0': expected a hook that has it, forward, output, postrouting"),
    ({"payload": {"hex": "x"}}, "payload {'hex': 'x'}: expected a text or {hex: 'de ad'}"),
    ({"hwaddr": "x"}, "hwaddr 'x': expected an address such as 02:00:5e:00:53:01"),
    ({"saddr": "192.0.2.1", "daddr": "::1"}, "daddr '::1': expected the IP family of the rest of the packet"),
    ({"icmpv6.type": 1, "family": "ipv4"}, "family 'ipv4': expected the IP family of the rest of the packet"),
    ({"tcp.seq": 1, "udp.length": 8}, "tcp.seq and udp.length: expected fields of one protocol"),
    ({"protocol": "udp", "tcp.seq": 1}, "tcp.seq 1: expected a field that a packet of protocol udp has"),
    ({"protocol": "udp", "dport": 1, "fragment": "later"}, "dport 1: expected no layer 4 in a later fragment"),
    ({"protocol": "esp", "checksum": "bad"}, "checksum: expected a packet with a layer-4 checksum, not protocol esp"),
    ({"tcp.seq": 1, "ah.spi": 1, "ip.df": 1}, "ah.spi: expected protocol ah in IPv4, where it is layer 4, not tcp"),
    ({"protocol": "ah", "family": "ipv6"}, "protocol ah: expected what stands behind this IPv6 extension header"),
    ({"ip6.exthdrs": "mh"}, "ip6.exthdrs 135: expected it as the protocol, it ends the chain"),
    ({"length": 3}, "length 3: expected at least 20"),
    ({"length": 65536}, "length 65536: expected at most 65535"),
    ({"ip.options": ["ra"] * 11}, f"options {', '.join(['148'] * 11)}: expected at most 40 bytes of them"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(PacketError) as error:
        build({"hook": "input", **fields})
    assert str(error.value) == message


def test_the_hook_is_never_guessed() -> None:
    with pytest.raises(PacketError, match="hook: expected one of prerouting, input, forward, output, postrouting"):
        build({"saddr": "192.0.2.1"})


PLAIN = st.one_of(st.integers(-1, 300), st.text(max_size=5), st.booleans(), st.none(), st.binary(max_size=3))
LIKELY = {
    Type.ADDRESS: st.sampled_from(["192.0.2.9", "2001:db8::9"]),
    Type.TEXT: st.just("02:00"),
    Type.BYTES: st.text(max_size=4),
}


@given(st.data())
def test_a_packet_or_a_packet_error(data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(BUILDABLE)), max_size=6))
    fields: dict[str, object] = {"hook": "forward"}
    for name in sorted(names - {"hook"}):
        row = FIELDS[name]
        named = st.sampled_from(sorted(row.names)) if row.names else st.integers(row.low, min(row.high, 300))
        fields[name] = data.draw(st.one_of(LIKELY.get(row.type, named), PLAIN))
    try:
        packet = build(fields)
    except PacketError:
        return
    decode(packet)


def test_from_hex() -> None:
    packet = from_hex("0x45:00 00 14\n" + "00" * 16, {"hook": "input", "iifname": "eth0"})
    assert (packet.data[:4], packet.wire_length, packet.iifname) == (b"\x45\0\0\x14", 20, "eth0")
    assert from_bytes(packet.data, {"hook": "input", "iifname": "eth0"}) == packet


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("45 0", {}, "packet '45 0': expected bytes in hex such as '45 00 00 14'"),
        ("45", {"saddr": "::1"}, "'saddr': expected metadata such as iifname, the packet's bytes are given"),
        ("45", {"length": 3}, "'length': expected metadata such as iifname, the packet's bytes are given"),
    ],
)
def test_hex_refused(text: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(PacketError) as error:
        from_hex(text, {"hook": "input", **fields})
    assert str(error.value) == message

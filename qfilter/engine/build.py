"""Packets from field names: what `tests:` in a policy and `explain --field` describe.

What is not described has a value that gets through: documentation addresses (RFC 5737, RFC 3849), ports of the dynamic
range, right lengths and checksums. Whoever describes a lie (`udp.length: 3`, `dport: 0`) gets that lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from scapy.layers import inet, inet6, ipsec, sctp

from qfilter.engine.checksum import BAD, complement, pseudo_header
from qfilter.engine.decoded import Fragment
from qfilter.engine.described import Described, describe, metadata
from qfilter.engine.network import FRAGMENT, ROUTING, WALKED
from qfilter.engine.transport import NO_NEXT_HEADER
from qfilter.errors import PacketError
from qfilter.fields import AH, DCCP, ESP, FIELDS, GRE, ICMP, ICMPV6, SCTP, TCP, TCP_FLAGS, UDP, UDPLITE, Family, Layer
from qfilter.model.packet import Packet
from qfilter.names import protocols

_ADDRESSES = {Family.IPV4: ("192.0.2.1", "198.51.100.1"), Family.IPV6: ("2001:db8::1", "2001:db8::2")}
_PORT = 49152
_EXPERIMENT = 253
"""The protocol of a packet of which nothing about layer 4 is said (RFC 3692): no rule for a protocol matches it."""
_EXPERIMENTAL_ETHERTYPE = 0x88B5
_SEGMENT_ROUTING = 4
_LATER_OFFSET = 1480
"""Bytes in front of a later fragment: what the first one carries on Ethernet."""
_MSS_OPTION, _MSS = 2, 1460
_STRANGERS = {Family.IPV4: ICMPV6, Family.IPV6: ICMP}
_ECHO_REQUEST = {ICMP: 8, ICMPV6: 128}
_MAX_OPTIONS, _MAX_PACKET = 40, 0xFFFF
_PADN = 1
_CHECKSUM_AT = {TCP: 16, UDP: 6, UDPLITE: 6, DCCP: 6, ICMP: 2, ICMPV6: 2}


def build(fields: Mapping[str, object]) -> Packet:
    """The packet that has these values, by names of BUILDABLE; `hook` is required. Values are written as in a policy.

    A number may be a name of its field; `tcp.flags` and fields with several values take a list or `syn,ack`; `payload`
    is a text, bytes or `{hex: 'de ad'}`. The protocol follows from a field that only one protocol has. Raises
    PacketError for whatever no packet can have.
    """
    values = describe(fields)
    family = _family(values, fields)
    protocol = _protocol(values, family)
    _refuse_strangers(values, fields, family, protocol)
    source, destination = _ADDRESSES[family]
    addresses = values.address("saddr", source).packed + values.address("daddr", destination).packed
    if family is Family.IPV4:
        front = _options(values.numbers("ip.options"), {})
        body = _body(values, protocol, addresses, 20 + len(front))
        data = _ipv4(values, protocol, addresses, front, body)
    else:
        front = _extensions(values, protocol)
        body = _body(values, protocol, addresses, 40 + len(front))
        data = _ipv6(values, protocol, addresses, front, body)
    return metadata(data, values)


def _family(values: Described, fields: Mapping[str, object]) -> Family:
    """The family that every described value allows; IPv4 where both remain."""
    left = set(Family)
    for name, value in fields.items():
        allowed = set(FIELDS[name].families)
        if name in ("saddr", "daddr"):
            allowed = {Family.IPV4 if values.address(name, "").version == 4 else Family.IPV6}
        elif name == "family":
            allowed = {Family(word) for word, number in FIELDS[name].names.items() if number == values.number(name, 0)}
        elif name == "protocol":
            allowed -= {family for family, stranger in _STRANGERS.items() if values.number(name, 0) == stranger}
        left &= allowed
        if not left:
            raise PacketError(f"{name} {value!r}: expected the IP family of the rest of the packet")
    return Family.IPV4 if Family.IPV4 in left else Family.IPV6


def _protocol(values: Described, family: Family) -> int:
    """The protocol described, or the only one that has all the described fields."""
    if "protocol" in values:
        return values.number("protocol", 0)
    needed = [name for name in values if FIELDS[name].protocols]
    if not needed:
        behind_ah = NO_NEXT_HEADER if family is Family.IPV6 else AH
        return behind_ah if "ah.spi" in values else _EXPERIMENT
    left = set.intersection(*(set(FIELDS[name].protocols) for name in needed))
    if len(left) == 1:
        return left.pop()
    if not left:
        raise PacketError(f"{' and '.join(needed)}: expected fields of one protocol")
    names = ", ".join(protocols().name(number) for number in sorted(left))
    raise PacketError(f"{' and '.join(needed)}: expected a protocol too, one of {names}")


def _refuse_strangers(values: Described, fields: Mapping[str, object], family: Family, protocol: int) -> None:
    """A field that this packet would not have must not be silently left out."""
    name = protocols().name(protocol)
    later = values.number("fragment", 0) == Fragment.LATER
    for field, value in fields.items():
        row = FIELDS[field]
        if row.protocols and protocol not in row.protocols:
            raise PacketError(f"{field} {value!r}: expected a field that a packet of protocol {name} has")
        if later and row.layer is Layer.TRANSPORT:
            raise PacketError(f"{field} {value!r}: expected no layer 4 in a later fragment")
    if "checksum" in values and (later or protocol not in _CHECKSUM_AT):
        raise PacketError(f"checksum: expected a packet with a layer-4 checksum, not protocol {name}")
    if "ah.spi" in values and family is Family.IPV4 and protocol != AH:
        raise PacketError(f"ah.spi: expected protocol ah in IPv4, where it is layer 4, not {name}")
    if family is Family.IPV6 and protocol in WALKED:
        raise PacketError(f"protocol {name}: expected what stands behind this IPv6 extension header")


def _ipv4(values: Described, protocol: int, addresses: bytes, options: bytes, body: bytes) -> bytes:
    fragment = values.number("fragment", 0)
    header = inet.IP(
        ihl=5 + len(options) // 4,
        tos=_traffic_class(values),
        len=20 + len(options) + len(body),
        id=values.number("ip.id", 1),
        flags=values.number("ip.df", 0) << 1 | (fragment == Fragment.FIRST),
        frag=_LATER_OFFSET // 8 if fragment == Fragment.LATER else 0,
        ttl=values.number("ttl", 64),
        proto=protocol,
        chksum=0,
        src=str(IPv4Address(addresses[:4])),
        dst=str(IPv4Address(addresses[4:])),
    )
    covered = bytes(header) + options
    return covered[:10] + complement(covered).to_bytes(2) + covered[12:] + body


def _ipv6(values: Described, protocol: int, addresses: bytes, extensions: bytes, body: bytes) -> bytes:
    kinds = _chain(values)
    header = inet6.IPv6(
        tc=_traffic_class(values),
        fl=values.number("ip6.flowlabel", 0),
        plen=len(extensions) + len(body),
        nh=kinds[0] if kinds else protocol,
        hlim=values.number("ttl", 64),
        src=str(IPv6Address(addresses[:16])),
        dst=str(IPv6Address(addresses[16:])),
    )
    return bytes(header) + extensions + body


def _traffic_class(values: Described) -> int:
    return values.number("dscp", 0) << 2 | values.number("ecn", 0)


def _chain(values: Described) -> list[int]:
    """Types of the extension headers: those described, then those that other fields imply."""
    kinds = list(values.numbers("ip6.exthdrs"))
    kinds += [ROUTING] * (len(values.numbers("ip6.routing")) - kinds.count(ROUTING))
    if "ah.spi" in values and AH not in kinds:
        kinds.append(AH)
    if values.number("fragment", 0) and FRAGMENT not in kinds:
        kinds.append(FRAGMENT)
    for kind in kinds:
        if kind not in WALKED:
            raise PacketError(f"ip6.exthdrs {kind}: expected it as the protocol, it ends the chain")
    return kinds


def _extensions(values: Described, protocol: int) -> bytes:
    kinds, routing = _chain(values), list(values.numbers("ip6.routing"))
    fragment = values.number("fragment", 0)
    chain = b""
    for kind, following in pairwise([*kinds, protocol]):
        if kind == FRAGMENT:
            offset = _LATER_OFFSET if fragment == Fragment.LATER else 0
            header = struct.pack("!BBHI", following, 0, offset | (fragment == Fragment.FIRST), 1)
        elif kind == AH:
            header = bytes(ipsec.AH(nh=following, payloadlen=2, spi=values.number("ah.spi", 1), icv=bytes(4)))
        elif kind == ROUTING:
            header = bytes([following, 0, routing.pop(0) if routing else _SEGMENT_ROUTING, 0, 0, 0, 0, 0])
        else:
            header = bytes([following, 0, _PADN, 4, 0, 0, 0, 0])
        chain += header
    return chain


def _options(kinds: tuple[int, ...], known: Mapping[int, bytes]) -> bytes:
    """Options of an IPv4 or TCP header, with a value of two zero bytes where nothing else is known; whole words."""
    found = b"".join(
        bytes([kind]) if kind < _MSS_OPTION else bytes([kind, 4]) + known.get(kind, bytes(2)) for kind in kinds
    )
    if len(found) > _MAX_OPTIONS:
        raise PacketError(f"options {', '.join(map(str, kinds))}: expected at most {_MAX_OPTIONS} bytes of them")
    return found + bytes(-len(found) % 4)


def _body(values: Described, protocol: int, addresses: bytes, before: int) -> bytes:
    """Layer 4 with its payload, as long as `length` asks, with its checksum; `before` counts the bytes in front."""
    fragment = values.number("fragment", 0)
    make = _plain if fragment == Fragment.LATER else _LAYER_4.get(protocol, _plain)
    payload = values.octets("payload", bytes(8) if fragment == Fragment.LATER else b"")
    missing = values.number("length", 0) - before - len(make(values, protocol, payload))
    if "length" in values:
        if missing < 0:
            raise PacketError(
                f"length {values.number('length', 0)}: expected at least {values.number('length', 0) - missing}"
            )
        payload += bytes(missing)
    if fragment == Fragment.FIRST:
        payload += bytes(-len(make(values, protocol, payload)) % 8)
    body = make(values, protocol, payload)
    if before + len(body) > _MAX_PACKET:
        raise PacketError(f"length {before + len(body)}: expected at most {_MAX_PACKET}")
    at = _CHECKSUM_AT.get(protocol)
    if at is None or fragment == Fragment.LATER:
        return body
    right = complement(pseudo_header(addresses, protocol, len(body)) + body)
    checksum = right % 0xFFFF + 1 if values.number("checksum", 0) == BAD else right
    return body[:at] + checksum.to_bytes(2) + body[at + 2 :]


def _plain(_: Described, __: int, payload: bytes) -> bytes:
    return payload


def _ports(values: Described) -> tuple[int, int]:
    return values.number("sport", _PORT), values.number("dport", _PORT)


def _tcp(values: Described, _: int, payload: bytes) -> bytes:
    kinds = values.numbers("tcp.options")
    if "tcp.mss" in values and _MSS_OPTION not in kinds:
        kinds = (_MSS_OPTION, *kinds)
    sport, dport = _ports(values)
    options = _options(kinds, {_MSS_OPTION: values.number("tcp.mss", _MSS).to_bytes(2)})
    header = inet.TCP(
        sport=sport,
        dport=dport,
        seq=values.number("tcp.seq", 0),
        dataofs=5 + len(options) // 4,
        flags=values.number("tcp.flags", TCP_FLAGS["syn"]),
        window=values.number("tcp.window", 64240),
        chksum=0,
    )
    return bytes(header) + options + payload


def _udp(values: Described, protocol: int, payload: bytes) -> bytes:
    """UDP's length; UDP-Lite has the checksum's coverage there, and 0 is all of it."""
    length = values.number("udp.length", 8 + len(payload)) if protocol == UDP else 0
    sport, dport = _ports(values)
    return bytes(inet.UDP(sport=sport, dport=dport, len=length, chksum=0)) + payload


def _sctp(values: Described, _: int, payload: bytes) -> bytes:
    sport, dport = _ports(values)
    return bytes(sctp.SCTP(sport=sport, dport=dport) / payload)


def _dccp(values: Described, _: int, payload: bytes) -> bytes:
    """A Data packet with an extended sequence number (RFC 4340 section 5.1)."""
    return struct.pack("!HHBBHB7x", *_ports(values), 4, 0, 0, 2 << 1 | 1) + payload


def _icmp(values: Described, protocol: int, payload: bytes) -> bytes:
    name = "icmp" if protocol == ICMP else "icmpv6"
    kind, code = values.number(f"{name}.type", _ECHO_REQUEST[protocol]), values.number(f"{name}.code", 0)
    return struct.pack("!BB6x", kind, code) + payload


def _ah(values: Described, _: int, payload: bytes) -> bytes:
    header = ipsec.AH(nh=NO_NEXT_HEADER, payloadlen=2, spi=values.number("ah.spi", 1), icv=bytes(4))
    return bytes(header) + payload


def _esp(values: Described, _: int, payload: bytes) -> bytes:
    return bytes(ipsec.ESP(spi=values.number("esp.spi", 1), seq=1, data=payload))


def _gre(values: Described, _: int, payload: bytes) -> bytes:
    kind = values.number("gre.protocol", _EXPERIMENTAL_ETHERTYPE)
    if "gre.key" in values:
        return struct.pack("!HHI", 0x2000, kind, values.number("gre.key", 0)) + payload
    return struct.pack("!HH", 0, kind) + payload


_LAYER_4: Mapping[int, Callable[[Described, int, bytes], bytes]] = {
    TCP: _tcp,
    UDP: _udp,
    UDPLITE: _udp,
    SCTP: _sctp,
    DCCP: _dccp,
    ICMP: _icmp,
    ICMPV6: _icmp,
    AH: _ah,
    ESP: _esp,
    GRE: _gre,
}

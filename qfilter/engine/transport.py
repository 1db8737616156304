"""Layer 4: the header behind IP, its own lengths, and where the payload begins.

The order of the checks is fixed, because both engines must name the same code first:
    family of ICMP; later fragment of TCP at offset 8; header short; the header's own lengths; its options; port zero;
    TCP flags.
The fixed part of a header is wholly here or unknown as a whole; options may be cut behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from scapy.layers import inet, sctp

from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.network import authentication
from qfilter.engine.options import Layout, kinds, walk
from qfilter.fields import AH, DCCP, ESP, GRE, ICMP, ICMPV6, SCTP, TCP, TCP_FLAGS, UDP, UDPLITE, Family
from qfilter.model.malformed import Malformed

NO_NEXT_HEADER = 59
_FIN, _SYN, _RST, _PSH, _URG = (TCP_FLAGS[name] for name in ("fin", "syn", "rst", "psh", "urg"))
_RFC793_FLAGS = 0x3F
"""ECN's two bits are not looked at: a null scan with one of them set is still a null scan."""
_MSS = 2
_DCCP_TYPE_SPECIFIC = {
    0: (4, 4),
    1: (8, 12),
    3: (4, 8),
    4: (4, 8),
    5: (4, 8),
    6: (4, 8),
    7: (8, 12),
    8: (4, 8),
    9: (4, 8),
}
"""Bytes behind the generic header by DCCP packet type, with short and with extended sequence numbers (RFC 4340)."""


def transport(d: Decoded, at: int | None) -> None:
    """Read layer 4 at an offset; None where IP said that it is not here."""
    other_family = ICMPV6 if d.family is Family.IPV4 else ICMP
    d.require(d.protocol != other_family, Malformed.ICMP_FAMILY)
    if d.fragment is Fragment.LATER:
        # It would overwrite the flags of a first fragment that a filter has already judged (RFC 1858, RFC 3128).
        d.require(d.protocol != TCP or d.fragment_offset != 8, Malformed.FRAGMENT_SHORT)
    if at is None or d.protocol is None:
        return
    nothing_there = at == d.end and d.fragment is Fragment.WHOLE
    if nothing_there or d.protocol == NO_NEXT_HEADER:
        d.payload = at
        return
    if d.protocol not in _READERS:
        d.transport = d.payload = at
        return
    minimum, read = _READERS[d.protocol]
    d.require_inside(at, minimum, Malformed.TRANSPORT_SHORT)
    d.transport = at
    if not d.copied(at, minimum):
        return
    size = read(d, at)
    if size is not None:
        d.payload = at + size


def _tcp(d: Decoded, at: int) -> int:
    header = inet.TCP(d.packet.data[at : at + 20])
    flags = int(header.flags) & 0xFF
    _ports(d, header.sport, header.dport)
    d.values.update({"tcp.flags": flags, "tcp.seq": int(header.seq), "tcp.window": int(header.window)})
    size = int(header.dataofs) * 4
    d.require(size >= 20, Malformed.TCP_DATA_OFFSET)
    d.require_inside(at, size, Malformed.TCP_DATA_OFFSET)
    options = walk(d, at + 20, at + size, Layout.IPV4_AND_TCP, Malformed.TCP_OPTION)
    d.values["tcp.options"] = kinds(d, "tcp.options", options)
    for option in options:
        if option.kind == _MSS and option.whole and len(option.value) == 2:
            d.values.setdefault("tcp.mss", int.from_bytes(option.value))
    _port_zero(d)
    six = flags & _RFC793_FLAGS
    scan = six in (0, _FIN | _PSH | _URG) or (six & _SYN and six & (_FIN | _RST))
    d.require(not scan, Malformed.TCP_FLAGS)
    return size


def _udp(d: Decoded, at: int) -> int:
    header = inet.UDP(d.packet.data[at : at + 8])
    _ports(d, header.sport, header.dport)
    if d.protocol == UDP:  # UDP-Lite has the checksum's coverage there
        size = int(header.len)
        d.values["udp.length"] = size
        d.require(size >= 8, Malformed.UDP_LENGTH)
        if d.fragment is not Fragment.FIRST:
            d.require(at + size <= d.end, Malformed.UDP_LENGTH)
            # What IP carries behind it is not refused: the kernel cuts it off, and no application sees it.
            d.end = at + size
    _port_zero(d)
    return 8


def _sctp(d: Decoded, at: int) -> int:
    header = sctp.SCTP(d.packet.data[at : at + 12])
    _ports(d, header.sport, header.dport)
    _port_zero(d)
    return 12


def _dccp(d: Decoded, at: int) -> int:
    """scapy has no DCCP."""
    sport, dport, words, _, _, kind_and_x = struct.unpack_from("!HHBBHB", d.packet.data, at)
    _ports(d, sport, dport)
    extended = kind_and_x & 1
    least = (16 if extended else 12) + _DCCP_TYPE_SPECIFIC.get(kind_and_x >> 1 & 0xF, (0, 0))[extended]
    d.require(words * 4 >= least, Malformed.DCCP_DATA_OFFSET)
    d.require_inside(at, words * 4, Malformed.DCCP_DATA_OFFSET)
    _port_zero(d)
    return int(words * 4)


def _icmp(d: Decoded, at: int) -> int:
    """Two bytes that both families share. scapy's ICMP needs more bytes than the header for some types and raises."""
    name = "icmp" if d.protocol == ICMP else "icmpv6"
    d.values[f"{name}.type"], d.values[f"{name}.code"] = d.packet.data[at], d.packet.data[at + 1]
    return 8


def _esp(d: Decoded, at: int) -> int:
    """scapy's ESP becomes another class where the index is 0."""
    d.values["esp.spi"] = int.from_bytes(d.packet.data[at : at + 4])
    return 8


def _gre(d: Decoded, at: int) -> int | None:
    """scapy's GRE becomes another class by what it carries, and raises where its optional words are missing."""
    flags, protocol = struct.unpack_from("!HH", d.packet.data, at)
    checksum, routing, key, sequence = (flags & bit for bit in (0x8000, 0x4000, 0x2000, 0x1000))
    d.values["gre.protocol"] = protocol
    if routing or flags & 7:
        # Source routes (RFC 1701) and version 1 (PPTP) have other words behind these four bytes; Linux's GRE refuses
        # the first and does not look for IP in the second.
        return 4
    size = 4 + 4 * sum(map(bool, (checksum, key, sequence)))
    d.require_inside(at, size, Malformed.TRANSPORT_SHORT)
    if not d.copied(at, size):
        return None
    if key:
        d.values["gre.key"] = struct.unpack_from("!I", d.packet.data, at + (8 if checksum else 4))[0]
    return size


def _ports(d: Decoded, sport: int, dport: int) -> None:
    d.values.update({"sport": int(sport), "dport": int(dport)})


def _port_zero(d: Decoded) -> None:
    d.require(d.values["sport"] != 0 and d.values["dport"] != 0, Malformed.PORT_ZERO)


_READERS: dict[int, tuple[int, Callable[[Decoded, int], int | None]]] = {
    TCP: (20, _tcp),
    UDP: (8, _udp),
    UDPLITE: (8, _udp),
    SCTP: (12, _sctp),
    DCCP: (12, _dccp),
    ICMP: (8, _icmp),
    ICMPV6: (8, _icmp),
    AH: (12, authentication),
    ESP: (8, _esp),
    GRE: (4, _gre),
}
"""By protocol: the bytes that its header has at least, and its reader; that gives the header's size, None when cut."""

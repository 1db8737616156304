"""Headers as bytes, field by field: tests of the dissection must not trust the builder that it ships with."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from qfilter.engine.decode import decode
from qfilter.engine.decoded import Decoded
from qfilter.model.malformed import Malformed
from qfilter.model.packet import Packet

V4 = (ip_address("192.0.2.1").packed, ip_address("198.51.100.1").packed)
V6 = (ip_address("2001:db8::1").packed, ip_address("2001:db8::2").packed)
TCP, UDP, ICMP, ICMPV6, IPIP, SIXINFOUR, GRE, ESP, AH, DCCP, SCTP = 6, 17, 1, 58, 4, 41, 47, 50, 51, 33, 132
HBH, ROUTING, FRAGMENT, NOTHING, DESTINATION, MOBILITY = 0, 43, 44, 59, 60, 135


def ipv4(
    payload: bytes = b"",
    protocol: int = TCP,
    *,
    total: int | None = None,
    words: int | None = None,
    options: bytes = b"",
    offset: int = 0,
    more: bool = False,
) -> bytes:
    """`offset` in bytes; no checksum."""
    words = 5 + len(options) // 4 if words is None else words
    total = 20 + len(options) + len(payload) if total is None else total
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, 7, more << 13 | offset // 8, 64, protocol, 0)
    return header + b"".join(V4) + options + payload


def ipv6(payload: bytes = b"", following: int = TCP, *, length: int | None = None) -> bytes:
    """An IPv6 header in front of a payload."""
    return (
        struct.pack("!IHBB", 6 << 28, len(payload) if length is None else length, following, 64)
        + b"".join(V6)
        + payload
    )


def ext(following: int, content: bytes = b"\x01\x04\0\0\0\0") -> bytes:
    """A hop-by-hop, destination or routing header."""
    return bytes([following, (len(content) + 2) // 8 - 1]) + content


def frag(following: int, offset: int = 0, *, more: bool = False) -> bytes:
    """A fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", following, 0, offset | more, 1)


def tcp(
    payload: bytes = b"", *, sport: int = 1024, dport: int = 80, flags: int = 2, options: bytes = b"", words: int = 0
) -> bytes:
    """A TCP header in front of a payload; no checksum."""
    words = words or 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", sport, dport, 9, 0, words << 4, flags, 512, 0, 0) + options + payload


def udp(payload: bytes = b"", *, sport: int = 1024, dport: int = 53, length: int | None = None) -> bytes:
    """A UDP header in front of a payload; no checksum."""
    return struct.pack("!HHHH", sport, dport, 8 + len(payload) if length is None else length, 0) + payload


def icmp(kind: int = 8, code: int = 0) -> bytes:
    """An ICMP or ICMPv6 header."""
    return struct.pack("!BBHI", kind, code, 0, 0)


def dccp(
    kind: int = 2, *, extended: bool = True, words: int = 4, size: int = 16, sport: int = 5, dport: int = 6
) -> bytes:
    """A DCCP header of `size` bytes."""
    return struct.pack("!HHBBHB", sport, dport, words, 0, 0, kind << 1 | extended).ljust(size, b"\0")


def decoded(data: bytes, wire: int | None = None, *allow: Malformed) -> Decoded:
    """Decode bytes of which the kernel holds `wire`."""
    return decode(Packet.from_bytes(data, hook="forward", wire_length=wire), frozenset(allow))

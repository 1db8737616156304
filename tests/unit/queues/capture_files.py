"""Captures built byte by byte, for tests that read them."""

from __future__ import annotations

import struct

SYN = bytes.fromhex("4500002800010000400666cdc0000201c633640704d2001600000000000000005002ffff4e150000")
"""An IPv4 TCP SYN, 192.0.2.1:1234 -> 198.51.100.7:22, 40 bytes."""
ECHO6 = bytes.fromhex(
    "6000000000083a40" + "20010db8000100000000000000000001" + "20010db8000100000000000000000002" + "8000000000010001"
)
"""An IPv6 ICMPv6 echo request, 48 bytes."""
ARP = bytes.fromhex("0001080006040001" + "02005e005301" + "c0000201" + "000000000000" + "c0000202")
ETHERNET = bytes.fromhex("02005e005302" + "02005e005301")
"""Destination and source; the type follows."""


def pcap_header(link_type: int, *, order: str = "<", nano: bool = False, version: tuple[int, int] = (2, 4)) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, 262_144, link_type)


def pcap_record(data: bytes, *, order: str = "<", original: int | None = None, at: tuple[int, int] = (1, 2)) -> bytes:
    return struct.pack(order + "IIII", *at, len(data), len(data) if original is None else original) + data


def option(code: int, value: bytes, *, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind: int, body: bytes, *, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(*, order: str = "<", major: int = 1, options: bytes = b"") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1) + options, order=order)


def interface(link_type: int, *, order: str = "<", snap: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap) + options, order=order)


def enhanced(
    data: bytes,
    *,
    order: str = "<",
    number: int = 0,
    stamp: int = 1_000_002,
    original: int | None = None,
    options: bytes = b"",
) -> bytes:
    wire = len(data) if original is None else original
    header = struct.pack(order + "IIIII", number, stamp >> 32, stamp & 0xFFFF_FFFF, len(data), wire)
    return block(6, header + data + bytes(-len(data) % 4) + options, order=order)


def simple(data: bytes, *, order: str = "<", original: int | None = None) -> bytes:
    return block(3, struct.pack(order + "I", len(data) if original is None else original) + data, order=order)

"""The field `checksum`: the IPv4 header's sum (RFC 1071) and the layer-4 sum over a pseudo-header (RFC 8200)."""

from __future__ import annotations

from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.value import ABSENT, Absent, Unknown
from qfilter.fields import FIELDS, ICMP, ICMPV6, TCP, UDP, Family
from qfilter.model.verdict import Reason

GOOD, BAD = FIELDS["checksum"].names["good"], FIELDS["checksum"].names["bad"]
_UDP_CHECKSUM = 6
"""Offset in the UDP header."""


def checksum(d: Decoded, detail: str) -> int | Unknown | Absent:
    """BAD when one of the packet's sums is wrong; GOOD only when its layer-4 sum was checked and is right.

    ABSENT where there is nothing to check: the hardware is still to fill it in, the protocol has no sum of this kind, a
    UDP sender over IPv4 gave none, or the addresses that it covers are not those of the header (source routes).
    """
    if not d.packet.checksum_ready:
        return ABSENT
    header = _ipv4_header(d)
    if header is not None and not _right(header):
        return BAD
    nothing = ABSENT if header is not None or d.family is Family.IPV6 else Unknown(Reason.TRUNCATED, detail)
    if d.protocol is not None and d.protocol not in (ICMP, ICMPV6, TCP, UDP):
        return nothing
    if d.fragment is not Fragment.WHOLE:
        return Unknown(Reason.FRAGMENT, detail)
    if d.cut is not None:
        return Unknown(d.cut, detail)
    if d.transport is None or d.rerouted:
        return nothing
    return _layer_4(d, d.transport, detail)


def _ipv4_header(d: Decoded) -> bytes | None:
    start = d.network_offset
    if d.family is not Family.IPV4 or start >= d.here:
        return None
    end = start + (d.packet.data[start] & 0xF) * 4
    return d.packet.data[start:end] if end <= d.here else None


def _layer_4(d: Decoded, start: int, detail: str) -> int | Unknown | Absent:
    length = d.values["udp.length"] if d.protocol == UDP else d.end - start
    assert isinstance(length, int)
    if start + length > d.here:
        return Unknown(Reason.TRUNCATED, detail)
    covered = d.packet.data[start : start + length]
    if d.protocol == UDP and d.family is Family.IPV4 and covered[_UDP_CHECKSUM : _UDP_CHECKSUM + 2] == b"\0\0":
        return ABSENT
    assert d.protocol is not None
    return GOOD if _right(pseudo_header(_addresses(d), d.protocol, length) + covered) else BAD


def complement(covered: bytes) -> int:
    """What a sum must be, 1 to 65535, for `covered` with 0 in its place. 0 is never given: UDP has it for "no sum"."""
    return 0xFFFF - _number(covered) % 0xFFFF


def pseudo_header(addresses: bytes, protocol: int, length: int) -> bytes:
    """What a layer-4 sum covers besides its bytes: both addresses in network order, protocol, length in bytes.

    Empty for ICMP, whose sum covers no addresses. That IPv4 writes its own shorter changes no sum.
    """
    return b"" if protocol == ICMP else addresses + length.to_bytes(4) + protocol.to_bytes(4)


def _addresses(d: Decoded) -> bytes:
    offset, size = (12, 8) if d.family is Family.IPV4 else (8, 32)
    return d.packet.data[d.network_offset + offset : d.network_offset + offset + size]


def _right(covered: bytes) -> bool:
    """Whether 16-bit words, the sum among them, add up to all ones.

    2**16 is 1 modulo 65535, so there the big-endian number is what the sum of its words is, and all ones is 0. Only
    words that are all zero add up to the other 0.
    """
    number = _number(covered)
    return number != 0 and number % 0xFFFF == 0


def _number(covered: bytes) -> int:
    return int.from_bytes(covered + b"\0" * (len(covered) % 2))

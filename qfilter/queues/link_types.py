"""Where the IP header begins in a captured frame, by link type (the registry at tcpdump.org/linktypes.html)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

_IPV4, _IPV6 = 0x0800, 0x86DD
_TAGS = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
"""VLAN tags: IEEE 802.1Q and 802.1ad, and what was used for outer tags before the latter."""
_PF_INET, _PF_INET6 = 2, (10, 24, 28, 30)
"""Protocol families of IPv4 everywhere, and of IPv6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS."""
_SLL_OUTGOING = 4


@dataclass(frozen=True, slots=True)
class Link:
    """What a frame's link header says."""

    network: int | None
    """Offset of the IP header; None when the frame carries something else."""
    outbound: bool | None = None
    padded: bool = False
    """Whether bytes may follow the IP packet that are not part of it."""


def _raw(_: bytes) -> Link:
    return Link(0)


def _ethernet(frame: bytes) -> Link:
    return Link(_after_tags(frame, 12), padded=True)


def _sll(frame: bytes) -> Link:
    packet_type = int.from_bytes(frame[0:2]) if len(frame) >= 2 else None
    return Link(_after_tags(frame, 14), _direction(packet_type), padded=True)


def _sll2(frame: bytes) -> Link:
    protocol = int.from_bytes(frame[0:2])
    packet_type = frame[10] if len(frame) > 10 else None
    if protocol in _TAGS:  # the header stays in front, the tags follow it
        return Link(_after_tags(frame, 22), _direction(packet_type), padded=True)
    return Link(20 if protocol in (_IPV4, _IPV6) and len(frame) >= 20 else None, _direction(packet_type), padded=True)


def _null(frame: bytes) -> Link:
    """The family in the byte order of the machine that captured, which nothing in a pcapng section tells."""
    families = {int.from_bytes(frame[0:4], "little"), int.from_bytes(frame[0:4], "big")}
    return Link(4 if len(frame) >= 4 and not families.isdisjoint((_PF_INET, *_PF_INET6)) else None)


def _after_tags(frame: bytes, at: int) -> int | None:
    """The offset behind the Ethernet type at `at`, or behind that of the last VLAN tag; None when it is not IP."""
    while int.from_bytes(frame[at : at + 2]) in _TAGS:
        at += 4
    if len(frame) < at + 2 or int.from_bytes(frame[at : at + 2]) not in (_IPV4, _IPV6):
        return None
    return at + 2


def _direction(packet_type: int | None) -> bool | None:
    return None if packet_type is None else packet_type == _SLL_OUTGOING


LINK_TYPES: Mapping[int, Callable[[bytes], Link]] = {
    0: _null,
    1: _ethernet,
    12: _raw,  # LINKTYPE_RAW as BSD and old captures number it
    101: _raw,
    108: _null,  # LINKTYPE_LOOP: the same in network byte order
    113: _sll,
    228: _raw,
    229: _raw,
    276: _sll2,
}
"""Readers of the link headers that qfilter knows."""


def network_length(data: bytes, wire_length: int) -> int:
    """Bytes of the IP packet among `wire_length` that begin with its header, of which `data` were captured.

    As the kernel does before a queue sees a packet (ip_rcv, ip6_rcv): what the link added behind the length that IP
    claims is cut off. A claim that cannot be is left for the engine to judge.
    """
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 4:
        claimed, least = int.from_bytes(data[2:4]), 20
    elif version == 6 and len(data) >= 6 and data[4:6] != b"\0\0":
        claimed, least = 40 + int.from_bytes(data[4:6]), 40
    else:
        return wire_length
    return claimed if least <= claimed <= wire_length else wire_length

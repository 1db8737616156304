"""The messages of ip_queue (linux/netfilter_ipv4/ip_queue.h of Linux 3.4; removed in 3.5). Bytes only, no sockets.

The structures are the kernel's own, in native byte order, with `unsigned long` and `size_t` of `word` bytes and the
padding that C gives them. A program of 4-byte words cannot speak to a kernel of 8: ip_queue never had a translation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qfilter.netlink.message import HEADER, Message
from qfilter.netlink.nfnetlink import CopyMode, Outcome

NETLINK_FIREWALL, NETLINK_IP6_FW = 3, 13
"""The protocols of ip_queue and of ip6_queue, whose messages are the same."""
MODE, VERDICT, PACKET = 17, 18, 19
"""`nlmsg_type`: IPQM_MODE and IPQM_VERDICT go to the kernel, IPQM_PACKET comes from it."""
COPY_LIMIT = 0xFFFF
"""The kernel copies no more of a packet, whatever range it is asked for."""
WORD = struct.calcsize("@L")
"""Bytes of this machine's `unsigned long`."""

_SHORTEST_PACKET = 20
_LONGEST_PACKET = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Layout:
    """The three structures: `ipq_packet_msg`, `ipq_verdict_msg` and `ipq_mode_msg`, their payload left out."""

    packet: struct.Struct
    verdict: struct.Struct
    mode: struct.Struct
    id: struct.Struct


_LAYOUTS = {
    4: _Layout(
        struct.Struct("=LLllI16s16s2sHB8s3xL"), struct.Struct("=ILL"), struct.Struct("=B3xL4x"), struct.Struct("=L")
    ),
    8: _Layout(
        struct.Struct("=QQqqI16s16s2sHB8s7xQ"), struct.Struct("=I4xQQ"), struct.Struct("=B7xQ8x"), struct.Struct("=Q")
    ),
}
# The mode's structure ends with the padding that makes it as long as a verdict's: the kernel takes nothing shorter than
# the union of both.


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedPacket:
    """`ipq_packet_msg`: a packet that waits in the kernel for its verdict."""

    id: int
    """An address in the kernel; a number without order."""
    mark: int
    timestamp: float | None
    """Seconds since the epoch; None where the kernel has none."""
    hook: int
    """NF_INET_*."""
    indev: bytes
    """Interface names; empty where the hook has none."""
    outdev: bytes
    ethertype: int
    hardware_type: int
    """ARPHRD_* of the interface that it came in by."""
    hwaddr: bytes | None
    payload: bytes
    """From the IP header on; empty in the mode META."""


def encode_mode(mode: CopyMode, copy_range: int = 0, *, word: int = WORD) -> bytes:
    """The body of IPQM_MODE: what the kernel sends of each packet. A range of 0 is the whole packet."""
    return _LAYOUTS[word].mode.pack(mode, copy_range)


def encode_verdict(packet_id: int, outcome: Outcome, payload: bytes = b"", *, word: int = WORD) -> bytes:
    """The body of IPQM_VERDICT; with a payload the packet is replaced by it, from the IP header on.

    Raises ValueError for a payload that no IP packet is: the kernel ignores one shorter than 20 bytes without a word,
    and accepts the packet as it was.
    """
    if payload and not _SHORTEST_PACKET <= len(payload) <= _LONGEST_PACKET:
        raise ValueError(f"payload of {len(payload)} bytes: expected {_SHORTEST_PACKET} to {_LONGEST_PACKET}")
    return _LAYOUTS[word].verdict.pack(outcome, packet_id, len(payload)) + payload


def decode_packet(message: Message, *, word: int = WORD) -> QueuedPacket:
    """A queued packet. Raises ValueError for another message, or one shorter than it says."""
    layout = _LAYOUTS[word].packet
    if message.type != PACKET or len(message.body) < layout.size:
        raise ValueError(f"netlink message type {message.type} of {len(message.body)} bytes: expected a packet")
    (packet_id, mark, seconds, micros, hook, indev, outdev, ethertype, hardware, hardware_length, address, length) = (
        layout.unpack_from(message.body)
    )
    payload = message.body[layout.size : layout.size + length]
    if len(payload) < length:
        raise ValueError(f"packet length {length}: expected at most the {len(payload)} bytes of its message")
    return QueuedPacket(
        id=packet_id,
        mark=mark & 0xFFFF_FFFF,
        timestamp=seconds + micros / 1_000_000 if seconds else None,
        hook=hook,
        indev=indev.partition(b"\0")[0],
        outdev=outdev.partition(b"\0")[0],
        ethertype=int.from_bytes(ethertype, "big"),
        hardware_type=hardware,
        hwaddr=address[:hardware_length] if hardware_length else None,
        payload=payload,
    )


def cut_packet_id(datagram: bytes, *, word: int = WORD) -> int | None:
    """The id of a packet whose message did not arrive whole, or None when not even that arrived."""
    layout = _LAYOUTS[word].id
    if len(datagram) < HEADER.size + layout.size or HEADER.unpack_from(datagram)[1] != PACKET:
        return None
    (packet_id,) = layout.unpack_from(datagram, HEADER.size)
    return int(packet_id)

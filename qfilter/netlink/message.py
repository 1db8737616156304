"""Netlink's wire format (linux/netlink.h, RFC 3549): headers, attributes, error answers. Bytes only, no sockets.

Numbers of the headers are in native byte order. Both headers and attributes begin on 4-byte boundaries; the padding
before the next one is not part of `nlmsg_len` or `nla_len`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ERROR = 2
DONE = 3
"""NLMSG_ERROR and NLMSG_DONE of `nlmsg_type`."""

REQUEST, ACK, DUMP = 0x001, 0x004, 0x300
"""NLM_F_* of `nlmsg_flags`."""

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_LONGEST_ATTRIBUTE = 0xFFFF - _ATTRIBUTE.size
# NLA_F_NESTED and NLA_F_NET_BYTEORDER stand above the type.
_TYPE_MASK = 0x3FFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One netlink message."""

    type: int
    flags: int = 0
    sequence: int = 0
    port_id: int = 0
    """Of the sender; 0 is the kernel, and in a request the kernel fills in nothing else."""
    body: bytes = b""


def encode_message(message: Message) -> bytes:
    """The message with its length, without padding."""
    length = HEADER.size + len(message.body)
    return HEADER.pack(length, message.type, message.flags, message.sequence, message.port_id) + message.body


def decode_messages(datagram: bytes) -> Iterator[Message]:
    """Every message of a datagram. Raises ValueError where one is shorter than its header or longer than what is left.

    The messages before such a one have been yielded by then.
    """
    place = 0
    while place < len(datagram):
        if len(datagram) - place < HEADER.size:
            raise ValueError(f"{len(datagram) - place} bytes: expected a netlink header of {HEADER.size}")
        length, kind, flags, sequence, port_id = HEADER.unpack_from(datagram, place)
        if not HEADER.size <= length <= len(datagram) - place:
            raise ValueError(f"netlink message length {length}: expected {HEADER.size} to {len(datagram) - place}")
        body = datagram[place + HEADER.size : place + length]
        yield Message(type=kind, flags=flags, sequence=sequence, port_id=port_id, body=body)
        place += _aligned(length)


def encode_attributes(attributes: Iterable[tuple[int, bytes]]) -> bytes:
    """Types with their values, each padded. Raises ValueError for a value above 65,531 bytes."""
    return b"".join(_encode_attribute(kind, value) for kind, value in attributes)


def decode_attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Types with their values, flags of the type removed. Raises ValueError like `decode_messages`."""
    place, end = start, len(data)
    while place < end:
        if end - place < _ATTRIBUTE.size:
            raise ValueError(f"{end - place} bytes: expected an attribute header of {_ATTRIBUTE.size}")
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if not _ATTRIBUTE.size <= length <= end - place:
            raise ValueError(f"attribute {kind} length {length}: expected {_ATTRIBUTE.size} to {end - place}")
        yield kind & _TYPE_MASK, data[place + _ATTRIBUTE.size : place + length]
        place += _aligned(length)


def decode_error(message: Message) -> int:
    """The errno in the answer to a request, 0 for success. Raises ValueError for any other message."""
    if message.type != ERROR or len(message.body) < _NUMBER.size:
        raise ValueError(f"netlink message type {message.type} of {len(message.body)} bytes: expected an error answer")
    (negative,) = _NUMBER.unpack_from(message.body)
    return -int(negative)


def _encode_attribute(kind: int, value: bytes) -> bytes:
    if len(value) > _LONGEST_ATTRIBUTE:
        raise ValueError(f"attribute {kind} of {len(value)} bytes: expected at most {_LONGEST_ATTRIBUTE}")
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    return length + 3 & ~3

"""The messages of NFQUEUE (linux/netfilter/nfnetlink_queue.h). Bytes only, no sockets.

Numbers inside the attributes are in network byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from qfilter.netlink.message import HEADER, Message, decode_attributes, encode_attributes

NETLINK_NETFILTER = 12
NFGEN = struct.Struct("!BBH")
"""nfgenmsg: family, version, and what the subsystem wants, such as a queue's number."""
SUBSYSTEM = 3
"""NFNL_SUBSYS_QUEUE: the upper byte of every message type here."""
PACKET, VERDICT, CONFIG = (SUBSYSTEM << 8 | kind for kind in range(3))
"""`nlmsg_type` of NFQNL_MSG_PACKET, _VERDICT and _CONFIG."""

COPY_LIMIT = 0xFFFF - 4
"""The kernel copies no more of a packet than fits in one attribute: 65,531 bytes."""


class Family(IntEnum):
    """NFPROTO_* of linux/netfilter.h: `nfgen_family` of a queued packet."""

    UNSPEC = 0
    INET = 1
    """Both families, of nf_tables alone."""
    IPV4 = 2
    ARP = 3
    BRIDGE = 7
    IPV6 = 10


class CopyMode(IntEnum):
    """NFQNL_COPY_*. With NONE the kernel drops every packet of the queue."""

    NONE = 0
    META = 1
    PACKET = 2


class ConfigFlag(IntFlag):
    """NFQA_CFG_F_* that qfilter knows."""

    FAIL_OPEN = 1
    """A packet that finds the queue or the socket full is let through."""
    CONNTRACK = 2
    """What connection tracking knows comes along."""
    GSO = 4
    """Super-packets come whole."""
    UID_GID = 8


ALL_FLAGS = ConfigFlag.FAIL_OPEN | ConfigFlag.CONNTRACK | ConfigFlag.GSO | ConfigFlag.UID_GID


class Outcome(IntEnum):
    """NF_* of linux/netfilter.h: what a verdict tells the kernel to do."""

    DROP = 0
    ACCEPT = 1
    QUEUE = 3
    """With the queue's number in the upper 16 bits."""
    REPEAT = 4


CHECKSUM_NOT_READY = 1
"""NFQA_SKB_CSUMNOTREADY."""

_PF_BIND = 3
_COMMAND = struct.Struct("!BxH")
_PARAMS = struct.Struct("!IB")
_PACKET_HEADER = struct.Struct("!IHB")
_HARDWARE = struct.Struct("!Hxx")
_HARDWARE_LONGEST = 8
_TIMESTAMP = struct.Struct("!QQ")
_VERDICT_HEADER = struct.Struct("!II")
_U32 = struct.Struct("!I")

(_NFQA_PACKET_HDR, _NFQA_VERDICT_HDR, _NFQA_MARK, _NFQA_TIMESTAMP) = range(1, 5)
(_NFQA_INDEV, _NFQA_OUTDEV, _NFQA_PHYSINDEV, _NFQA_PHYSOUTDEV, _NFQA_HWADDR, _NFQA_PAYLOAD) = range(5, 11)
_NFQA_CT, _NFQA_CT_INFO, _NFQA_CAP_LEN, _NFQA_SKB_INFO = range(11, 15)
_NFQA_UID, _NFQA_GID = 16, 17
_CTA_MARK = 8

(_CFG_COMMAND, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS) = range(1, 6)


_CT_INVALID = 1
_CT_INFO_IS_REPLY, _CT_INFO_NUMBER = 3, 6
"""IP_CT_IS_REPLY; userspace's IP_CT_NUMBER, behind the established, the related and the new of each direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conntrack:
    """The connection of a packet."""

    info: int
    """`enum ip_conntrack_info`."""
    mark: int
    """CTA_MARK; the kernel leaves out a mark of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedPacket:
    """NFQNL_MSG_PACKET: a packet that waits in the kernel for its verdict, by `id`."""

    id: int
    """Counts up by one for every packet that was to be delivered, 32 bits."""
    family: int
    """Whose hook queued it, see Family."""
    ethertype: int
    hook: int
    """NF_INET_* for the IP families; the bridge's hooks have the same order."""
    mark: int = 0
    indev: int = 0
    """Interface indices; 0 where the hook has none."""
    outdev: int = 0
    physindev: int = 0
    physoutdev: int = 0
    hwaddr: bytes | None = None
    timestamp: float | None = None
    """Seconds since the epoch; the kernel gives none on output."""
    uid: int | None = None
    gid: int | None = None
    conntrack: Conntrack | None = None
    """Where the kernel was asked for it, and the packet has one."""
    checksum_ready: bool = True
    wire_length: int
    """Of the packet in the kernel; more than the payload's length when the copy was cut."""
    payload: bytes = b""
    """From the network header on."""

    @property
    def ct_state(self) -> int:
        """NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h, without a connection NF_CT_STATE_INVALID_BIT.

        Packets that are untracked have none either: nfnetlink_queue.c sends NFQA_CT and NFQA_CT_INFO together, for
        what nf_ct_get returns, which is NULL for both, and IP_CT_UNTRACKED stays in the kernel.
        """
        if self.conntrack is None or self.conntrack.info >= _CT_INFO_NUMBER:
            return _CT_INVALID
        return 1 << self.conntrack.info % _CT_INFO_IS_REPLY + 1


def decode_packet(message: Message) -> QueuedPacket:
    """A queued packet. Raises ValueError for another message, or one that lacks its NFQA_PACKET_HDR."""
    if message.type != PACKET or len(message.body) < NFGEN.size:
        raise ValueError(f"netlink message type {message.type:#x} of {len(message.body)} bytes: expected a packet")
    found = dict(decode_attributes(message.body, NFGEN.size))
    try:
        packet_id, ethertype, hook = _PACKET_HEADER.unpack_from(found[_NFQA_PACKET_HDR])
        payload = found.get(_NFQA_PAYLOAD, b"")
        return QueuedPacket(
            id=packet_id,
            family=message.body[0],
            ethertype=ethertype,
            hook=hook,
            mark=_number(found, _NFQA_MARK) or 0,
            indev=_number(found, _NFQA_INDEV) or 0,
            outdev=_number(found, _NFQA_OUTDEV) or 0,
            physindev=_number(found, _NFQA_PHYSINDEV) or 0,
            physoutdev=_number(found, _NFQA_PHYSOUTDEV) or 0,
            hwaddr=_hardware_address(found.get(_NFQA_HWADDR)),
            timestamp=_timestamp(found.get(_NFQA_TIMESTAMP)),
            uid=_number(found, _NFQA_UID),
            gid=_number(found, _NFQA_GID),
            conntrack=_conntrack(found),
            checksum_ready=not (_number(found, _NFQA_SKB_INFO) or 0) & CHECKSUM_NOT_READY,
            wire_length=_number(found, _NFQA_CAP_LEN) or len(payload),
            payload=payload,
        )
    except (KeyError, struct.error) as wrong:
        raise ValueError(f"queued packet with attributes {sorted(found)}: {wrong!r}") from None


def cut_packet_id(datagram: bytes) -> int | None:
    """The id of a packet whose message did not fit in the buffer, or None when not even that arrived."""
    if len(datagram) < HEADER.size or HEADER.unpack_from(datagram)[1] != PACKET:
        return None
    try:
        # The kernel writes NFQA_PACKET_HDR first; the walk ends there, long before the cut.
        kind, value = next(decode_attributes(datagram, HEADER.size + NFGEN.size), (0, b""))
    except ValueError:
        return None
    return int.from_bytes(value[:4], "big") if kind == _NFQA_PACKET_HDR and len(value) >= 4 else None


def encode_verdict(queue: int, packet_id: int, value: int, mark: int | None = None) -> bytes:
    """The body of a NFQNL_MSG_VERDICT; `mark` None leaves the packet's as it is."""
    attributes = [(_NFQA_VERDICT_HDR, _VERDICT_HEADER.pack(value, packet_id))]
    if mark is not None:
        attributes.append((_NFQA_MARK, _U32.pack(mark)))
    return _body(queue, attributes)


def encode_config(
    queue: int,
    *,
    copy: tuple[CopyMode, int] | None = None,
    length: int | None = None,
    flags: ConfigFlag | None = None,
) -> bytes:
    """The body of a NFQNL_MSG_CONFIG for a queue that is bound already; what is None stays as it is.

    `copy` is the mode and the most bytes of a packet (0 means COPY_LIMIT to the kernel), `length` the most packets
    that wait. Flags of ConfigFlag that `flags` does not have are taken away.
    """
    attributes = []
    if copy is not None:
        mode, limit = copy
        attributes.append((_CFG_PARAMS, _PARAMS.pack(limit, mode)))
    if length is not None:
        attributes.append((_CFG_MAXLEN, _U32.pack(length)))
    if flags is not None:
        attributes += [(_CFG_FLAGS, _U32.pack(flags)), (_CFG_MASK, _U32.pack(ALL_FLAGS))]
    return _body(queue, attributes)


def encode_greeting() -> bytes:
    """The body of a NFQNL_MSG_CONFIG that changes nothing: NFQNL_CFG_CMD_PF_BIND, obsolete since Linux 3.8.

    Its answer says whether the sender may speak to the subsystem, and whether that is there at all.
    """
    return _body(0, [(_CFG_COMMAND, _COMMAND.pack(_PF_BIND, Family.IPV4))])


def _body(queue: int, attributes: Iterable[tuple[int, bytes]]) -> bytes:
    return NFGEN.pack(Family.UNSPEC, 0, queue) + encode_attributes(attributes)


def _number(found: dict[int, bytes], kind: int) -> int | None:
    value = found.get(kind)
    return None if value is None else int(_U32.unpack(value)[0])


def _conntrack(found: dict[int, bytes]) -> Conntrack | None:
    info = _number(found, _NFQA_CT_INFO)
    if info is None:
        return None
    return Conntrack(info=info, mark=_number(dict(decode_attributes(found.get(_NFQA_CT, b""))), _CTA_MARK) or 0)


def _hardware_address(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    (length,) = _HARDWARE.unpack_from(value)
    return value[_HARDWARE.size : _HARDWARE.size + min(length, _HARDWARE_LONGEST)]


def _timestamp(value: bytes | None) -> float | None:
    if value is None:
        return None
    seconds, microseconds = _TIMESTAMP.unpack(value)
    return float(seconds + microseconds / 1_000_000)

"""One packet as a queue, a capture or a caller hands it over: bytes, and what the kernel knows about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qfilter.errors import PacketError
from qfilter.model.hook import Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A packet from its network header on, with the metadata of the hook where it was seen."""

    data: bytes
    """From the first byte of the IPv4 or IPv6 header, as far as it was captured."""
    hook: Hook
    wire_length: int
    """Bytes of the packet in the kernel (`skb->len`), at least `len(data)`; more when the copy was cut."""
    iifname: str | None = None
    """Input interface; None where the hook has none (output, postrouting)."""
    oifname: str | None = None
    """Output interface; None where the hook has none (prerouting, input)."""
    physin: str | None = None
    """Bridge port that the packet came in by (bridge netfilter only)."""
    physout: str | None = None
    """Bridge port that it leaves by."""
    mark: int = 0
    """`skb->mark`, 32 bits."""
    uid: int | None = None
    """User id of the socket; known only where the packet has one (output, postrouting)."""
    gid: int | None = None
    ct_state: int | None = None
    """What connection tracking takes it for: one of the NF_CT_STATE_* bits of linux/netfilter/nf_conntrack_common.h, as
    `ct.state` names them. From NFQUEUE always one, 1 (invalid) without a connection; None where nobody can say."""
    ct_mark: int | None = None
    """Mark of its connection, 32 bits; None without one."""
    hwaddr: bytes | None = None
    """Source link-layer address, as many bytes as the kernel says (6 on Ethernet)."""
    timestamp: float | None = None
    """Seconds since the epoch when it was captured; None when the queue gave no time."""
    checksum_ready: bool = True
    """False when the kernel said that a checksum is still to be filled in (NFQA_SKB_CSUMNOTREADY)."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What a predicate asked for with `needs`, by field name; empty everywhere else."""

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        hook: Hook | str,
        wire_length: int | None = None,
        iifname: str | None = None,
        oifname: str | None = None,
        mark: int = 0,
        uid: int | None = None,
        gid: int | None = None,
        ct_state: int | None = None,
        ct_mark: int | None = None,
        hwaddr: bytes | None = None,
        timestamp: float | None = None,
    ) -> Packet:
        """A packet from raw bytes that begin with an IPv4 or IPv6 header.

        Any bytes are taken: judging malformed ones is the engine's work. Raises PacketError for an unknown hook,
        a wire length below `len(data)` or a number that does not fit its field.
        """
        try:
            where = Hook(hook)
        except ValueError:
            raise PacketError(f"hook {hook!r}: expected one of {', '.join(Hook)}") from None
        length = len(data) if wire_length is None else wire_length
        if length < len(data):
            raise PacketError(f"wire length {length}: expected at least the {len(data)} bytes given")
        if ct_state not in (None, 1, 2, 4, 8):
            raise PacketError(f"ct_state {ct_state}: expected 1 invalid, 2 established, 4 related or 8 new")
        for name, value in (("mark", mark), ("uid", uid), ("gid", gid), ("ct_mark", ct_mark)):
            if value is not None and not 0 <= value < 1 << 32:
                raise PacketError(f"{name} {value}: expected 0 to {(1 << 32) - 1}")
        return cls(
            data=bytes(data),
            hook=where,
            wire_length=length,
            iifname=iifname,
            oifname=oifname,
            mark=mark,
            uid=uid,
            gid=gid,
            ct_state=ct_state,
            ct_mark=ct_mark,
            hwaddr=hwaddr,
            timestamp=timestamp,
        )

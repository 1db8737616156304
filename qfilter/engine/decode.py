"""From bytes to headers: lengths are checked here, once, and nothing behind this can fail on any bytes.

What the headers say is judged in the order in which the packet has them: empty, IP version, then the checks of
`network` and of `transport` in the order that their docstrings give; the first one that fails is the packet's code. Two
kinds of missing bytes are kept apart: a header that claims more than the packet has on the wire lies (malformed), one
that the kernel did not copy is unknown (truncated). Bytes behind IP's own length are no part of the packet.

A packet inside a tunnel goes through the same functions, see `tunnel`. When it lies, the outer one does not: a host
that does not end the tunnel only forwards it.
"""

from __future__ import annotations

from qfilter.engine.decoded import Decoded, Lie
from qfilter.engine.network import ipv4, ipv6
from qfilter.engine.transport import transport
from qfilter.fields import Family
from qfilter.model.malformed import Malformed
from qfilter.model.packet import Packet

__all__ = ["Decoded", "decode", "dissect"]


def decode(packet: Packet, allow: frozenset[Malformed] = frozenset()) -> Decoded:
    """Read a packet's headers; `allow` names codes of ALLOWABLE that are let through. Never raises."""
    copied = len(packet.data)
    # Nothing copied is nothing known, and the queue always copies the header's beginning.
    return dissect(packet, allow, start=0, end=packet.wire_length if copied else 0)


def dissect(
    packet: Packet, allow: frozenset[Malformed], *, start: int, end: int, announced: Family | None = None
) -> Decoded:
    """Read the IP packet between two offsets of `packet.data`, of the family that a tunnel announced. Never raises."""
    d = Decoded(packet=packet, allow=allow, network_offset=start, end=end)
    try:
        _headers(d, announced)
    except Lie as lie:
        d.malformed = lie.code
    return d


def _headers(d: Decoded, announced: Family | None) -> None:
    start = d.network_offset
    d.require(start < d.end, Malformed.EMPTY)
    if not d.copied(start, 1):
        d.family = announced
        return
    version = d.packet.data[start] >> 4
    d.require(version in (4, 6), Malformed.IP_VERSION)
    family = Family.IPV4 if version == 4 else Family.IPV6
    d.require(announced in (None, family), Malformed.IP_VERSION)
    transport(d, ipv4(d) if family is Family.IPV4 else ipv6(d))

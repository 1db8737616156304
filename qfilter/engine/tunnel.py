"""Packets inside packets: IPIP, 6in4, GRE and VXLAN."""

from __future__ import annotations

from qfilter.engine.decode import dissect
from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.value import ABSENT, Absent, Unknown
from qfilter.fields import GRE, IPENCAP, IPV6, UDP, Family
from qfilter.model.malformed import Malformed
from qfilter.model.verdict import Reason

VXLAN_PORT = 4789
_VXLAN_HEADER = 8
_FAMILIES = {0x0800: Family.IPV4, 0x86DD: Family.IPV6}
_ETHERNET = 0x6558
_GRE_ROUTING, _GRE_VERSION = 0x40, 0x07
_ETHERNET_HEADER, _TAG = 14, 4
_VLAN_TAGS = (0x8100, 0x88A8)
_DIRECT = {IPENCAP: Family.IPV4, IPV6: Family.IPV6}


def inside(d: Decoded, detail: str) -> Decoded | Unknown | Absent:
    """The packet that this one carries: ABSENT when it is no tunnel, unknown when that cannot be seen.

    A fragment shows only a part of what is inside, so nothing of it is known. `detail` is for the Unknown.
    """
    if d.malformed is not None:
        return Unknown(Reason.MALFORMED, d.malformed)
    if not _may_be_tunnel(d):
        return ABSENT
    if d.fragment is not Fragment.WHOLE:
        return Unknown(Reason.FRAGMENT, detail)
    if d.cut is not None:
        return Unknown(d.cut, detail)
    if d.transport is None or d.payload is None:
        return ABSENT
    if d.protocol in _DIRECT:
        return _packet(d, d.payload, d.end, _DIRECT[d.protocol])
    if d.protocol == GRE:
        flags, version = d.packet.data[d.transport : d.transport + 2]
        if flags & _GRE_ROUTING or version & _GRE_VERSION:
            return ABSENT
        carried = d.values["gre.protocol"]
        if carried == _ETHERNET:
            return _frame(d, d.payload, d.end, detail)
        return _packet(d, d.payload, d.end, _FAMILIES[int(str(carried))])
    length = d.values["udp.length"]
    assert isinstance(length, int)
    return _frame(d, d.payload + _VXLAN_HEADER, d.transport + length, detail)


def _may_be_tunnel(d: Decoded) -> bool:
    """False when the headers that are here rule it out."""
    port, carried = d.values.get("dport", VXLAN_PORT), d.values.get("gre.protocol", _ETHERNET)
    return (
        d.protocol in (None, *_DIRECT)
        or (d.protocol == UDP and port == VXLAN_PORT)
        or (d.protocol == GRE and (carried == _ETHERNET or carried in _FAMILIES))
    )


def _packet(d: Decoded, start: int, end: int, family: Family) -> Decoded:
    return dissect(d.packet, d.allow, start=start, end=end, announced=family)


def _frame(d: Decoded, start: int, end: int, detail: str) -> Decoded | Unknown | Absent:
    """What an Ethernet frame carries, behind its VLAN tags. VXLAN's flags are not asked: not all hosts do."""
    at = start + _ETHERNET_HEADER
    while True:
        if at > end:
            return Unknown(Reason.MALFORMED, Malformed.TRANSPORT_SHORT)
        if at > d.here:
            return Unknown(Reason.TRUNCATED, detail)
        kind = int.from_bytes(d.packet.data[at - 2 : at])
        if kind not in _VLAN_TAGS:
            return _packet(d, at, end, _FAMILIES[kind]) if kind in _FAMILIES else ABSENT
        at += _TAG

"""IPv4 and IPv6: from the IP header to layer 4. They differ in the header step; fragments are one rule for both.

The order of the checks is fixed, because both engines must name the same code first:
    IPv4: header short, header length, header short again, total length, option, source route, fragment.
    IPv6: header short, jumbogram, payload length, then for each extension header: count, order, repeated fragment,
    length, and its content (option, jumbogram; routing type; fragment; AH length).
A header that the kernel did not copy as a whole is unknown as a whole; only IPv4 options and an AH's check value may
be cut without making the fixed part before them unknown.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from scapy.layers import inet, inet6, ipsec

from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.options import Layout, kinds, walk
from qfilter.engine.value import Partial, Unknown
from qfilter.fields import AH, TCP, Family
from qfilter.model.malformed import Malformed
from qfilter.model.verdict import Reason

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
WALKED = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION})
"""What Linux walks over as well (`ipv6_ext_hdr`): any other number is the layer-4 protocol."""
_LAST = frozenset({50, 135, 139, 140})
"""ESP, Mobility, HIP, Shim6: extension headers by IANA's list that are the protocol here, as in Linux."""
_MAX_EXTENSIONS = 16
_SOURCE_ROUTES = frozenset({131, 137})
_JUMBO_PAYLOAD, _HOME_ADDRESS = 0xC2, 0xC9
_MAX_LENGTH = 0xFFFF


def ipv4(d: Decoded) -> int | None:
    """Read an IPv4 header. Gives the offset of layer 4, None when that is not here."""
    start = d.network_offset
    d.family = Family.IPV4
    d.require(start + 20 <= d.end, Malformed.IPV4_HEADER_SHORT)
    if not d.copied(start, 20):
        return None
    header = inet.IP(d.packet.data[start : start + 20])
    d.protocol = int(header.proto)
    more, offset = bool(header.flags.MF), int(header.frag) * 8
    d.values.update({"saddr": IPv4Address(header.src), "daddr": IPv4Address(header.dst), "protocol": d.protocol})
    d.values.update(_hops_and_class(header.ttl, header.tos))
    d.values.update({"ip.id": int(header.id), "ip.df": int(header.flags.DF), "fragment": _kind(offset, more=more)})
    behind = start + int(header.ihl) * 4
    d.require(behind >= start + 20, Malformed.IPV4_HEADER_LENGTH)
    d.require(behind <= d.end, Malformed.IPV4_HEADER_SHORT)
    end = start + int(header.len)
    if _big_tcp(header.len, d.protocol, d.end - start) and not more and not offset:
        end = d.end
    d.require(behind <= end <= d.end, Malformed.IPV4_TOTAL_LENGTH)
    d.end = end
    options = walk(d, start + 20, behind, Layout.IPV4_AND_TCP, Malformed.IPV4_OPTION)
    d.values["ip.options"] = kinds(d, "ip.options", options)
    d.rerouted = any(option.kind in _SOURCE_ROUTES for option in options)
    d.require(not d.rerouted, Malformed.IPV4_SOURCE_ROUTE)
    if more or offset:
        _fragment(d, offset, more=more, data=behind, before=behind - start, code=Malformed.IPV4_FRAGMENT)
    return None if d.fragment is Fragment.LATER else behind


def ipv6(d: Decoded) -> int | None:
    """Read an IPv6 header and its extension headers. Gives the offset of layer 4, None when that is not here."""
    start = d.network_offset
    d.family = Family.IPV6
    d.require(start + 40 <= d.end, Malformed.IPV6_HEADER_SHORT)
    if not d.copied(start, 40):
        return None
    header = inet6.IPv6(d.packet.data[start : start + 40])
    d.values.update({"saddr": IPv6Address(header.src), "daddr": IPv6Address(header.dst)})
    d.values.update(_hops_and_class(header.hlim, header.tc))
    d.values["ip6.flowlabel"] = int(header.fl)
    end = start + 40 + int(header.plen)
    if _big_tcp(header.plen, header.nh, d.end - end):
        end = d.end
    d.require(header.plen != 0 or end == d.end, Malformed.IPV6_JUMBOGRAM)
    d.require(end <= d.end, Malformed.IPV6_PAYLOAD_LENGTH)
    d.end = end
    return _extensions(d, int(header.nh), start + 40)


def authentication(d: Decoded, at: int) -> int | None:
    """Read an AH (RFC 4302), an extension header of IPv6 and a protocol of IPv4. Gives its size, None when cut."""
    d.require_inside(at, 12, Malformed.AH_LENGTH)
    if not d.copied(at, 12):
        return None
    header = ipsec.AH(d.packet.data[at : at + 12])
    size = (int(header.payloadlen) + 2) * 4
    d.require(size >= 12, Malformed.AH_LENGTH)
    d.require_inside(at, size, Malformed.AH_LENGTH)
    d.values.setdefault("ah.spi", int(header.spi))
    return size


def _extensions(d: Decoded, kind: int, at: int) -> int | None:
    """Walk the chain. What one header announces is known even where the next one is not here."""
    first = at
    seen: list[int] = []
    routing: list[int] = []
    while kind in WALKED and d.fragment is not Fragment.LATER:
        d.require(len(seen) < _MAX_EXTENSIONS, Malformed.IPV6_EXTENSION_COUNT)
        d.require(kind != HOP_BY_HOP or at == first, Malformed.IPV6_EXTENSION_ORDER)
        d.require(kind != FRAGMENT or FRAGMENT not in seen, Malformed.IPV6_FRAGMENT_REPEATED)
        seen.append(kind)
        size = _extension(d, kind, at, first, routing)
        if size is None:
            _unfinished(d, seen, routing)
            return None
        kind, at = d.packet.data[at], at + size
    if kind in WALKED:
        # A later fragment of a datagram whose chain goes on behind the fragment header: layer 4 may be anything.
        _unfinished(d, [*seen, kind], routing)
        return None
    # A later fragment's next header is taken at its word, as Linux does (ipv6_find_hdr): what counts in the end is the
    # first fragment's, and that one is judged with its whole chain.
    d.protocol = kind
    d.values["protocol"] = kind
    d.values["fragment"] = d.fragment
    d.values["ip6.exthdrs"] = (*seen, kind) if kind in _LAST else tuple(seen)
    d.values["ip6.routing"] = tuple(routing)
    return None if d.fragment is Fragment.LATER else at


def _unfinished(d: Decoded, seen: list[int], routing: list[int]) -> None:
    assert d.cut is not None
    for name, known in (("ip6.exthdrs", seen), ("ip6.routing", routing)):
        d.values[name] = Partial(tuple(known), None, Unknown(d.cut, name))


def _extension(d: Decoded, kind: int, at: int, first: int, routing: list[int]) -> int | None:
    """Check one extension header. Gives its size, None when it was not copied.

    Next header and length are read as the two bytes that they are: scapy's classes would parse the options too.
    """
    if kind == AH:
        return authentication(d, at)
    d.require_inside(at, 8, Malformed.IPV6_EXTENSION_LENGTH)
    if not d.copied(at, 8):
        return None
    if kind == FRAGMENT:
        header = inet6.IPv6ExtHdrFragment(d.packet.data[at : at + 8])
        more, offset = bool(header.m), int(header.offset) * 8
        if more or offset:  # neither is an atomic fragment: a whole packet (RFC 6946)
            _fragment(d, offset, more=more, data=at + 8, before=at - first, code=Malformed.IPV6_FRAGMENT)
        return 8
    size = (d.packet.data[at + 1] + 1) * 8
    d.require_inside(at, size, Malformed.IPV6_EXTENSION_LENGTH)
    if not d.copied(at, size):
        return None
    if kind == ROUTING:
        routing.append(d.packet.data[at + 2])
        d.require(routing[-1] != 0, Malformed.IPV6_ROUTING_TYPE_0)
        d.rerouted |= d.packet.data[at + 3] > 0  # segments left
        return size
    options = walk(d, at + 2, at + size, Layout.IPV6, Malformed.IPV6_EXTENSION_OPTION)
    d.require(all(option.kind != _JUMBO_PAYLOAD for option in options), Malformed.IPV6_JUMBOGRAM)
    d.rerouted |= any(option.kind == _HOME_ADDRESS for option in options)
    return size


def _fragment(d: Decoded, offset: int, *, more: bool, data: int, before: int, code: Malformed) -> None:
    """Check a real fragment. `before` is what the reassembled length counts in front of the fragments' data.

    Where other fragments overlap this one is not known here: a datagram with overlaps is the reassembler's to refuse
    (RFC 5722), and a rule that needs layer 4 of a later fragment gets the cause `fragment`.
    """
    size = d.end - data
    d.require(size > 0 and not (more and size % 8) and before + offset + size <= _MAX_LENGTH, code)
    d.fragment = _kind(offset, more=more)
    d.fragment_offset = offset
    d.values["fragment"] = d.fragment
    if d.fragment is Fragment.LATER:
        d.cut = Reason.FRAGMENT


def _big_tcp(claimed: int, protocol: int, size: int) -> bool:
    """A super-packet whose length does not fit 16 bits says 0 (Linux: BIG TCP, iph_totlen, ipv6_payload_len).

    No wire carries such a packet without a jumbo payload option, so only this kernel can have made it. The kernels that
    did add the option for IPv6 (5.19 until it was dropped again) made true jumbograms; those stay refused.
    """
    return claimed == 0 and protocol == TCP and size > _MAX_LENGTH


def _kind(offset: int, *, more: bool) -> Fragment:
    if offset:
        return Fragment.LATER
    return Fragment.FIRST if more else Fragment.WHOLE


def _hops_and_class(hops: int, traffic_class: int) -> dict[str, int]:
    return {"ttl": int(hops), "dscp": int(traffic_class) >> 2, "ecn": int(traffic_class) & 3}

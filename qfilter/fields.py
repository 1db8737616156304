"""THE field table. Validation, schema, matching, explain and docs/fields.md derive from it; nothing else lists fields.

Three kinds of fields are not in it because their names are open: `scapy.<Layer>.<field>`, `python` and `bytes`.
`inner.<field>` is any field of the network, transport or payload layer, read inside a tunnel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qfilter.model.hook import Hook
from qfilter.names import protocols, services


class Type(StrEnum):
    """What values of a field are, and so what a policy may compare them with."""

    NUMBER = "number"
    """An int in `low` to `high`; names of `names` stand for numbers."""
    FLAGS = "flags"
    """An int of named bits: `syn`, `syn,ack`, `syn / fin,syn,rst,ack`."""
    MARK = "mark"
    """An int, or `value/mask`."""
    ADDRESS = "address"
    """An IPv4 or IPv6 address (`ipaddress.IPv4Address` or `IPv6Address`)."""
    TEXT = "text"
    """A name, as str; compared as UTF-8. A trailing `*` in a plain value matches any ending, as in nftables."""
    BYTES = "bytes"
    """Raw bytes. A plain text value is compared for equality."""


class Layer(StrEnum):
    """Where a field is read."""

    META = "meta"
    NETWORK = "network"
    TRANSPORT = "transport"
    PAYLOAD = "payload"


class Family(StrEnum):
    """An IP family."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One row of the table."""

    name: str
    type: Type
    layer: Layer
    doc: str
    source: str
    """The RFC, the kernel header, or the netlink attribute that defines it."""
    low: int = 0
    high: int = 0
    unit: str = ""
    names: Mapping[str, int] = field(default_factory=dict)
    many: bool = False
    """Several values a packet; a test is true when any value matches, its negation when none does."""
    families: tuple[Family, ...] = tuple(Family)
    protocols: tuple[int, ...] = ()
    """Layer-4 protocols whose packets have it; empty is all."""
    hooks: tuple[Hook, ...] = tuple(Hook)
    """Hooks where a packet can have it."""
    needs_payload: bool = False
    """True when reading it may look past the headers, so that the copy range must be the whole packet."""


TCP, UDP, DCCP, SCTP, UDPLITE = 6, 17, 33, 132, 136
ICMP, ICMPV6, IPENCAP, IPV6, GRE, ESP, AH = 1, 58, 4, 41, 47, 50, 51
PORTS = (TCP, UDP, DCCP, SCTP, UDPLITE)
"""Protocols whose header begins with a source and a destination port."""

TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
_U8, _U16, _U32 = 0xFF, 0xFFFF, 0xFFFF_FFFF
_BEFORE_ROUTING = (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD)
_AFTER_ROUTING = (Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
_LOCAL_OUT = (Hook.OUTPUT, Hook.POSTROUTING)
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_DSCP = {f"cs{n}": n * 8 for n in range(8)} | {
    f"af{group}{drop}": group * 8 + drop * 2 for group in range(1, 5) for drop in range(1, 4)
}
_DSCP |= {"be": 0, "lephb": 1, "va": 44, "ef": 46}

_ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
_ICMP_CODES = {"net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3} | {
    "frag-needed": 4,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}
_ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "ind-neighbor-solicit": 141,
    "ind-neighbor-advert": 142,
    "mld2-listener-report": 143,
}
_ICMPV6_CODES = {"no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4} | {
    "policy-fail": 5,
    "reject-route": 6,
}
_IP_OPTIONS = {"eol": 0, "nop": 1, "rr": 7, "timestamp": 68, "security": 130, "lsrr": 131, "cipso": 134} | {
    "stream-id": 136,
    "ssrr": 137,
    "ra": 148,
}
_IP6_EXTENSIONS = {"hbh": 0, "rt": 43, "frag": 44, "auth": 51, "dst": 60, "mh": 135}
_TCP_OPTIONS = {"eol": 0, "nop": 1, "maxseg": 2, "window": 3, "sack-perm": 4, "sack": 5, "timestamp": 8} | {
    "md5sig": 19,
    "mptcp": 30,
    "fastopen": 34,
}
_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8}
_ETHERTYPES = {"ip": 0x0800, "ip6": 0x86DD, "teb": 0x6558, "erspan": 0x88BE, "ppp": 0x880B}

_META = (
    Field(
        name="hook",
        type=Type.NUMBER,
        layer=Layer.META,
        high=4,
        names={hook.value: hook.number for hook in Hook},
        doc="the netfilter hook that queued the packet",
        source="NFQA_PACKET_HDR",
    ),
    Field(
        name="family",
        type=Type.NUMBER,
        layer=Layer.META,
        high=10,
        names={Family.IPV4: 2, Family.IPV6: 10},
        doc="the IP version, by its NFPROTO number",
        source="linux/netfilter.h",
    ),
    Field(
        name="iifname",
        type=Type.TEXT,
        layer=Layer.META,
        hooks=_BEFORE_ROUTING,
        doc="name of the interface that the packet came in by",
        source="NFQA_IFINDEX_INDEV",
    ),
    Field(
        name="oifname",
        type=Type.TEXT,
        layer=Layer.META,
        hooks=_AFTER_ROUTING,
        doc="name of the interface that it leaves by",
        source="NFQA_IFINDEX_OUTDEV",
    ),
    Field(
        name="physin",
        type=Type.TEXT,
        layer=Layer.META,
        hooks=_BEFORE_ROUTING,
        doc="bridge port that it came in by; only with bridge netfilter",
        source="NFQA_IFINDEX_PHYSINDEV",
    ),
    Field(
        name="physout",
        type=Type.TEXT,
        layer=Layer.META,
        hooks=_AFTER_ROUTING,
        doc="bridge port that it leaves by; only with bridge netfilter",
        source="NFQA_IFINDEX_PHYSOUTDEV",
    ),
    Field(
        name="mark",
        type=Type.MARK,
        layer=Layer.META,
        high=_U32,
        doc="the packet's mark, as earlier rules of this policy left it",
        source="NFQA_MARK",
    ),
    Field(
        name="length",
        type=Type.NUMBER,
        layer=Layer.META,
        high=_U32,
        unit="bytes",
        doc="the packet's length from the network header on; a super-packet counts as one",
        source="NFQA_CAP_LEN, skb->len",
    ),
    Field(
        name="uid",
        type=Type.NUMBER,
        layer=Layer.META,
        high=_U32,
        hooks=_LOCAL_OUT,
        doc="user id of the socket that sent it",
        source="NFQA_UID",
    ),
    Field(
        name="gid",
        type=Type.NUMBER,
        layer=Layer.META,
        high=_U32,
        hooks=_LOCAL_OUT,
        doc="group id of the socket that sent it",
        source="NFQA_GID",
    ),
    Field(
        name="ct.state",
        type=Type.NUMBER,
        layer=Layer.META,
        low=1,
        high=8,
        names=_CT_STATES,
        doc="what connection tracking takes the packet for; NFQUEUE cannot tell untracked from `invalid`",
        source="NFQA_CT_INFO, NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h",
    ),
    Field(
        name="ct.mark",
        type=Type.MARK,
        layer=Layer.META,
        high=_U32,
        doc="mark of the packet's connection; absent where it has none",
        source="NFQA_CT, CTA_MARK",
    ),
    Field(
        name="hwaddr",
        type=Type.TEXT,
        layer=Layer.META,
        hooks=_BEFORE_ROUTING,
        doc="source link-layer address, as lower-case `02:00:5e:00:53:01`",
        source="NFQA_HWADDR",
    ),
    Field(
        name="hour",
        type=Type.NUMBER,
        layer=Layer.META,
        high=23,
        unit="hours",
        doc="hour of the day in this machine's time zone, from the packet's timestamp or else the clock",
        source="NFQA_TIMESTAMP",
    ),
    Field(
        name="weekday",
        type=Type.NUMBER,
        layer=Layer.META,
        high=6,
        names={name: number for number, name in enumerate(_WEEKDAYS)},
        doc="day of the week in this machine's time zone, Sunday is 0",
        source="NFQA_TIMESTAMP",
    ),
)

_NETWORK = (
    Field(
        name="saddr",
        type=Type.ADDRESS,
        layer=Layer.NETWORK,
        doc="source address",
        source="RFC 791, RFC 8200",
    ),
    Field(
        name="daddr",
        type=Type.ADDRESS,
        layer=Layer.NETWORK,
        doc="destination address",
        source="RFC 791, RFC 8200",
    ),
    Field(
        name="protocol",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U8,
        names=protocols().unambiguous,
        doc="layer-4 protocol, after all IPv6 extension headers",
        source="IANA protocol numbers",
    ),
    Field(
        name="ttl",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U8,
        unit="hops",
        doc="time to live, or IPv6 hop limit",
        source="RFC 791, RFC 8200",
    ),
    Field(
        name="dscp",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=63,
        names=_DSCP,
        doc="differentiated services code point",
        source="RFC 2474",
    ),
    Field(
        name="ecn",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=3,
        names={"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3},
        doc="explicit congestion notification",
        source="RFC 3168",
    ),
    Field(
        name="fragment",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=2,
        names={"whole": 0, "first": 1, "later": 2},
        doc="whether the packet is whole (atomic fragments are), a first fragment or a later one",
        source="RFC 791, RFC 8200, RFC 6946",
    ),
    Field(
        name="ip.id",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U16,
        families=(Family.IPV4,),
        doc="IPv4 identification",
        source="RFC 791",
    ),
    Field(
        name="ip.df",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=1,
        families=(Family.IPV4,),
        doc="IPv4 don't-fragment flag, 0 or 1",
        source="RFC 791",
    ),
    Field(
        name="ip.options",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U8,
        names=_IP_OPTIONS,
        many=True,
        families=(Family.IPV4,),
        doc="types of the IPv4 options that the header carries",
        source="IANA IP option numbers",
    ),
    Field(
        name="ip6.flowlabel",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=0xFFFFF,
        families=(Family.IPV6,),
        doc="IPv6 flow label",
        source="RFC 8200",
    ),
    Field(
        name="ip6.exthdrs",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U8,
        names=_IP6_EXTENSIONS,
        many=True,
        families=(Family.IPV6,),
        doc="types of the IPv6 extension headers; those of a later fragment's first part are unknown",
        source="RFC 8200, IANA IPv6 extension header types",
    ),
    Field(
        name="ip6.routing",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=_U8,
        many=True,
        families=(Family.IPV6,),
        doc="types of the IPv6 routing headers; type 0 reaches no rule unless the policy allows ipv6-routing-type-0",
        source="RFC 8200, RFC 5095",
    ),
    Field(
        name="checksum",
        type=Type.NUMBER,
        layer=Layer.NETWORK,
        high=1,
        names={"good": 0, "bad": 1},
        needs_payload=True,
        doc="whether the IPv4 header's and the layer-4 checksum are right; absent where the hardware is to fill it in",
        source="RFC 1071, NFQA_SKB_INFO",
    ),
)

_TRANSPORT = (
    Field(
        name="sport",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        names=services().unambiguous,
        protocols=PORTS,
        doc="source port",
        source="RFC 9293, RFC 768, RFC 9260, RFC 4340, RFC 3828",
    ),
    Field(
        name="dport",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        names=services().unambiguous,
        protocols=PORTS,
        doc="destination port",
        source="RFC 9293, RFC 768, RFC 9260, RFC 4340, RFC 3828",
    ),
    Field(
        name="tcp.flags",
        type=Type.FLAGS,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=TCP_FLAGS,
        protocols=(TCP,),
        doc="TCP flags; `syn` is any packet with SYN, `syn / fin,syn,rst,ack` one with SYN alone of these",
        source="RFC 9293, RFC 3168",
    ),
    Field(
        name="tcp.seq",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U32,
        protocols=(TCP,),
        doc="TCP sequence number",
        source="RFC 9293",
    ),
    Field(
        name="tcp.window",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        protocols=(TCP,),
        doc="TCP window as it stands in the header, before scaling",
        source="RFC 9293",
    ),
    Field(
        name="tcp.mss",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        unit="bytes",
        protocols=(TCP,),
        doc="value of TCP's maximum segment size option; absent without the option",
        source="RFC 9293",
    ),
    Field(
        name="tcp.options",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=_TCP_OPTIONS,
        many=True,
        protocols=(TCP,),
        doc="kinds of the TCP options that the header carries",
        source="IANA TCP option kinds",
    ),
    Field(
        name="udp.length",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        unit="bytes",
        protocols=(UDP,),
        doc="UDP length, header included",
        source="RFC 768",
    ),
    Field(
        name="icmp.type",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=_ICMP_TYPES,
        protocols=(ICMP,),
        families=(Family.IPV4,),
        doc="ICMP type",
        source="IANA ICMP parameters",
    ),
    Field(
        name="icmp.code",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=_ICMP_CODES,
        protocols=(ICMP,),
        families=(Family.IPV4,),
        doc="ICMP code; the names are those of destination-unreachable",
        source="IANA ICMP parameters",
    ),
    Field(
        name="icmpv6.type",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=_ICMPV6_TYPES,
        protocols=(ICMPV6,),
        families=(Family.IPV6,),
        doc="ICMPv6 type",
        source="IANA ICMPv6 parameters",
    ),
    Field(
        name="icmpv6.code",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U8,
        names=_ICMPV6_CODES,
        protocols=(ICMPV6,),
        families=(Family.IPV6,),
        doc="ICMPv6 code; the names are those of destination-unreachable",
        source="IANA ICMPv6 parameters",
    ),
    Field(
        name="ah.spi",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U32,
        doc="security parameters index of an authentication header, also of one before the layer-4 header",
        source="RFC 4302",
    ),
    Field(
        name="esp.spi",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U32,
        protocols=(ESP,),
        doc="security parameters index of an encrypted payload",
        source="RFC 4303",
    ),
    Field(
        name="gre.protocol",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U16,
        names=_ETHERTYPES,
        protocols=(GRE,),
        doc="what a GRE packet carries, by Ethernet type",
        source="RFC 2784",
    ),
    Field(
        name="gre.key",
        type=Type.NUMBER,
        layer=Layer.TRANSPORT,
        high=_U32,
        protocols=(GRE,),
        doc="GRE key; absent without one",
        source="RFC 2890",
    ),
)

_PAYLOAD = (
    Field(
        name="payload",
        type=Type.BYTES,
        layer=Layer.PAYLOAD,
        needs_payload=True,
        doc="the bytes after the last header that qfilter knows: of TCP, UDP and so on what the application sent",
        source="bytes after the layer-4 header, up to the length that IP claims",
    ),
)

FIELDS: Mapping[str, Field] = {row.name: row for row in (*_META, *_NETWORK, *_TRANSPORT, *_PAYLOAD)}
"""Every field by name, in the order of the reference page."""

MAX_DEPTH = 4
"""How many tunnels `inner.` may look into."""

CONNTRACK = frozenset({"ct.state", "ct.mark"})
"""What the kernel says of a packet only when asked for it (NFQA_CFG_F_CONNTRACK), where it can."""

BUILDABLE = frozenset(FIELDS)
"""What a packet can be described by in `tests:` and for `explain`; such a description always has `hook`."""

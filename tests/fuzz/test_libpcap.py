"""Header fields by a third opinion: filters of libpcap beside matches, on broken packets and on generated ones.

Every packet on which both differ needs a reason of REASONS; a row names those that it needs, and no others. Two hold in
every row. A packet that is malformed here meets no rule; libpcap looks at it like at any other. Where a header was not
wholly copied, or is not in this fragment, its fields are unknown here; libpcap reads the bytes that are there, and what
is not there is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from qfilter.compiler import portable_plan
from qfilter.compiler.encode import encode
from qfilter.engine.clock import Clock
from qfilter.engine.decode import decode
from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.native import NativeEngine
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import Reason, Verdict
from qfilter.policy.load import loads
from tests.fuzz.generated import TIMES
from tests.fuzz.libpcap import LIBRARY, Filter
from tests.fuzz.wide import wide_packets
from tests.unit.engine.test_corpus import CORPUS
from tests.unit.engine.test_corpus import packets as corpus_packets

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libpcap is not here")


def _has_extensions(found: Decoded) -> bool:
    return found.packet.data[0] >> 4 == 6 and found.packet.data[6] in (0, 43, 44, 51, 60, 135)


# Why libpcap lets a packet not through that has what the filter asks for: in words, and of which packets that is true.
REASONS: dict[str, tuple[str, Callable[[Decoded], bool]]] = {
    "extensions": ("libpcap does not walk IPv6 extension headers", _has_extensions),
}

Row = tuple[str, str, tuple[str, ...]]
ROWS: tuple[Row, ...] = (
    # Family, addresses
    ("ip", "{family: ipv4}", ()),
    ("ip6", "{family: ipv6}", ()),
    ("src host 10.0.0.3", "{saddr: 10.0.0.3}", ()),
    ("dst net 10.0.0.0/8", "{daddr: 10.0.0.0/8}", ()),
    ("net 10.0.0.4/30", "{any: [{saddr: 10.0.0.4/30}, {daddr: 10.0.0.4/30}]}", ()),
    ("src host 2001:db8::3", "{saddr: '2001:db8::3'}", ()),
    ("dst net 2001:db8::/125", "{daddr: '2001:db8::/125'}", ()),
    ("ip6 and not src net fe80::/10", "{family: ipv6, saddr: {not: 'fe80::/10'}}", ()),
    # The layer-4 protocol
    ("tcp", "{protocol: tcp}", ("extensions",)),
    ("udp", "{protocol: udp}", ("extensions",)),
    ("sctp", "{protocol: sctp}", ("extensions",)),
    ("icmp", "{protocol: icmp}", ()),
    ("icmp6", "{protocol: icmpv6}", ("extensions",)),
    ("ip proto 50", "{family: ipv4, protocol: esp}", ()),
    ("ip proto 47", "{family: ipv4, protocol: gre}", ()),
    ("ip proto 4", "{family: ipv4, protocol: ipencap}", ()),
    ("ip6 protochain 6", "{family: ipv6, protocol: tcp}", ()),
    ("ip6 protochain 17", "{family: ipv6, protocol: udp}", ()),
    # Extension headers
    ("ip6[6] = 0", "{ip6.exthdrs: hbh}", ()),
    ("ip6 protochain 60", "{ip6.exthdrs: dst}", ()),
    ("ip6 protochain 43", "{ip6.exthdrs: rt}", ()),
    # Ports
    ("tcp dst port 80", "{protocol: tcp, dport: 80}", ("extensions",)),
    ("udp src port 53", "{protocol: udp, sport: 53}", ()),
    ("udp dst port 53", "{protocol: udp, dport: 53}", ()),
    ("sctp dst port 7", "{protocol: sctp, dport: 7}", ("extensions",)),
    ("udp dst portrange 3-1024", "{protocol: udp, dport: 3-1024}", ("extensions",)),
    ("tcp portrange 5-9", "{protocol: tcp, any: [{sport: 5-9}, {dport: 5-9}]}", ("extensions",)),
    # TCP, which libpcap reads by offset in IPv4 only
    ("tcp[tcpflags] & tcp-syn != 0", "{family: ipv4, tcp.flags: syn}", ()),
    ("tcp[tcpflags] & 0x17 = tcp-syn", "{family: ipv4, tcp.flags: 'syn / fin,syn,rst,ack'}", ()),
    ("tcp[tcpflags] & (tcp-push|tcp-rst) != 0", "{family: ipv4, tcp.flags: [psh, rst]}", ()),
    ("tcp[4:4] > 1000000000", "{family: ipv4, tcp.seq: {gt: 1000000000}}", ()),
    ("tcp[14:2] < 1000", "{family: ipv4, tcp.window: {lt: 1000}}", ()),
    # IPv4
    ("ip[8] < 5", "{family: ipv4, ttl: {lt: 5}}", ()),
    ("ip[1] & 0xfc = 0x10", "{family: ipv4, dscp: 4}", ()),
    ("ip[1] & 3 != 0", "{family: ipv4, ecn: {not: not-ect}}", ()),
    ("ip[4:2] < 5", "{ip.id: {lt: 5}}", ()),
    ("ip[6] & 0x40 != 0", "{ip.df: 1}", ()),
    ("ip[0] & 0xf > 5", "{ip.options: 0-255}", ()),
    ("ip[6:2] & 0x1fff != 0", "{family: ipv4, fragment: later}", ()),
    ("ip[6:2] & 0x3fff = 0x2000", "{family: ipv4, fragment: first}", ()),
    ("ip[6:2] & 0x3fff = 0", "{family: ipv4, fragment: whole}", ()),
    # IPv6
    ("ip6[7] = 255", "{family: ipv6, ttl: 255}", ()),
    ("ip6[0:2] & 0xfc0 = 0xe00", "{family: ipv6, dscp: 56}", ()),
    ("ip6[0:4] & 0xfffff != 0", "{ip6.flowlabel: {gt: 0}}", ()),
    # Lengths
    ("greater 100", "{length: {ge: 100}}", ()),
    ("less 60", "{length: {le: 60}}", ()),
    ("udp[4:2] > 40", "{family: ipv4, udp.length: {gt: 40}}", ()),
    # ICMP
    ("icmp[icmptype] = icmp-echo", "{icmp.type: echo-request}", ()),
    ("icmp[icmptype] = icmp-unreach and icmp[icmpcode] = 3", "{icmp.type: destination-unreachable, icmp.code: 3}", ()),
    ("icmp6[icmp6type] = 135", "{icmpv6.type: nd-neighbor-solicit}", ("extensions",)),
    (
        "icmp6[icmp6type] < 129 and icmp6[icmp6code] > 1",
        "{icmpv6.type: {lt: 129}, icmpv6.code: {gt: 1}}",
        ("extensions",),
    ),
    # Bytes
    ("ip[12:2] = 0x0a00", "{family: ipv4, bytes: {base: network, offset: 12, value: 0a 00}}", ()),
    ("udp[9] = 0x62", "{family: ipv4, protocol: udp, bytes: {base: transport, offset: 9, value: '62'}}", ()),
    ("tcp[0] = 0", "{family: ipv4, protocol: tcp, bytes: {base: transport, offset: 0, value: '00'}}", ()),
)


def sent() -> Iterator[Packet]:
    """The corpus where it is here, and generated packets."""
    yield from corpus_packets() if CORPUS.exists() else ()
    for packet in wide_packets(Random(4), 4_000 * TIMES):
        yield replace(packet, hook=Hook.INPUT)


def is_unknown(found: Decoded, verdict: Verdict) -> bool:
    packet = found.packet
    cut = verdict.reason is Reason.TRUNCATED and len(packet.data) < packet.wire_length
    return cut or (verdict.reason is Reason.FRAGMENT and found.fragment is not Fragment.WHOLE)


@pytest.fixture(scope="module")
def packets() -> list[Decoded]:
    return [decode(packet) for packet in sent() if packet.data]


@pytest.mark.parametrize(("filter_text", "match", "reasons"), ROWS, ids=[row[0] for row in ROWS])
def test_libpcap_says_the_same(packets: list[Decoded], filter_text: str, match: str, reasons: tuple[str, ...]) -> None:
    policy = loads(f"version: 1\ndefault: {{input: drop}}\nrules: [{{match: {match}, verdict: accept}}]\n")
    clock = Clock(monotonic=lambda: 0, wall=lambda: 0.0)
    engine, lets_through = NativeEngine(policy, encode(portable_plan(policy)), clock), Filter(filter_text)
    needed, matched = set[str](), 0
    for found in packets:
        said, verdict = lets_through(found.packet), engine.decide(found.packet)
        matched += said
        if verdict.reason is Reason.MALFORMED or is_unknown(found, verdict) or said == (verdict.reason is Reason.RULE):
            continue
        because = {name for name in reasons if not said and REASONS[name][1](found)}
        assert because, f"libpcap says {said}, qfilter {verdict}: {found.packet.data.hex(' ')}"
        needed |= because
    assert matched, "no packet of the kind"
    assert needed == set(reasons), "a reason that no packet needs"

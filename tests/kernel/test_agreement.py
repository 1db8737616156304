"""One table of packets through everything that gives verdicts: both engines by call, a real queue, and the kernel."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from qfilter.daemon import EngineName, Service, engine_maker
from qfilter.engine.build import build
from qfilter.events.record import worth_recording
from qfilter.fields import FIELDS, Layer
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Kind, RejectWith, Verdict
from qfilter.policy.load import loads
from tests.kernel.nfqueue import iptables, rules
from tests.kernel.running import Kept, in_force
from tests.lab.process import wait_until
from tests.lab.topology import SERVER_MAC, Lab
from tests.lab.wire import Tap, inject

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

_TABLE = sorted((Path(__file__).parents[1] / "conformance" / "policies").glob("*.yaml"))
CONFORMANCE = [path for path in _TABLE if "ct." not in path.read_text()]
"""Those for which no connections need to be tracked."""
NOT_SENT = {name for name, field in FIELDS.items() if field.layer is Layer.META} - {"hook"} | {"ip.options"}
"""What a packet brings along that a wire does not carry; and the kernel itself refuses options with nothing in them."""
_REJECTED = 28
"""Where the code of a reject stands in the mark."""


@pytest.fixture
def world(lab: Lab) -> Lab:
    """The gateway has no address of its own, and forwards to the server whatever the client sends."""
    lab.gateway.ip(
        "addr flush dev lan",
        "addr flush dev wan",
        f"neigh replace 198.51.100.254 lladdr {SERVER_MAC} dev wan",
        f"neigh replace fe80::fe lladdr {SERVER_MAC} dev wan",
        "route add default via 198.51.100.254 dev wan onlink",
        "route add default via fe80::fe dev wan",
    )
    return lab


def forwarding(path: Path) -> str:
    """A policy of the table for forwarded packets instead of its own first hook's, that logs all it can."""
    text = path.read_text()
    if "forward:" not in text:
        text = text.replace("input" if "input:" in text else "output", "forward")
    return re.sub(r"\{id: (?!.*log: )", "{log: true, id: ", text)


@dataclass(frozen=True)
class Case:
    """A packet as the gateway judges it, and its verdict by the reference engine."""

    packet: Packet
    verdict: Verdict


def cases(policy: Policy) -> Iterator[Case]:
    """The tests of a policy that the lab can send, once both engines agree by call."""
    for test in policy.tests:
        if test.packet["hook"] != Hook.FORWARD or NOT_SENT & test.packet.keys():
            continue
        packet = replace(build(test.packet), iifname="lan", oifname="wan")
        verdict, native = (engine_maker(name, policy)(None).decide(packet) for name in reversed(EngineName))
        assert native == verdict, test.at
        assert verdict.decision.kind == test.expect.kind, test.at
        yield Case(packet, verdict)


def sent(packet: Packet) -> bytes:
    """As the client sends it: the gateway takes one from the time to live before its forward hook."""
    data = bytearray(packet.data)
    if data[0] >> 4 == 6:
        data[7] += 1
        return bytes(data)
    data[8] += 1
    # RFC 1624: one more in the upper byte of its word.
    checksum = int.from_bytes(data[10:12]) - 0x0100
    data[10:12] = (checksum % 0xFFFF).to_bytes(2)
    return bytes(data)


def essence(data: bytes) -> tuple[bytes, bytes]:
    """The addresses, and what is behind them and behind the options, which routers change."""
    return (data[12:20], data[4 * (data[0] & 0x0F) :]) if data[0] >> 4 == 4 else (data[8:40], data[40:])


def is_unicast(data: bytes) -> bool:
    """Not the gateway's own word to all its neighbours."""
    return data[0] >> 4 == 4 or data[24] != 0xFF


def judged(service: Service) -> Counter[Kind]:
    """What the queue has told the kernel so far."""
    seen = service.queues[0].counters
    return Counter({Kind.ACCEPT: seen.accepted, Kind.DROP: seen.dropped, Kind.REJECT: seen.repeated})


@pytest.mark.parametrize("path", CONFORMANCE, ids=lambda path: path.stem)
def test_a_real_queue_says_what_both_engines_say_by_call(world: Lab, path: Path) -> None:
    text = forwarding(path)
    table = list(cases(loads(text, str(path))))
    kept = Kept()
    codes = {f"{code.code << _REJECTED:#x}/0xf0000000": code for code in RejectWith}
    rules(world.gateway, *(f"FORWARD -m mark --mark {mark} -j DROP" for mark in codes), "FORWARD -i lan -j NFQUEUE")
    with Tap(world.server) as tap, in_force(world.gateway, text, kept=kept) as service:
        for number, case in enumerate(table, 1):
            before = judged(service)
            inject(world.client, [sent(case.packet)])
            wait_until(lambda: judged(service).total() == number, f"{case} should be judged")  # noqa: B023
            assert judged(service) - before == {case.verdict.decision.kind: 1}, case
        told = [case.verdict for case in table if worth_recording(case.verdict)]
        wait_until(lambda: len(kept.of("verdict") + kept.of("failure")) >= len(told), "all should be told")
        passed = [essence(case.packet.data) for case in table if case.verdict.decision.kind is Kind.ACCEPT]
        arrived = tap.collect(len(passed), is_unicast)
    assert table
    assert list(map(essence, arrived)) == passed
    events = kept.of("verdict") + kept.of("failure")
    said = Counter((event["verdict"], event["reason"], event["rule"], event["detail"]) for event in events)
    assert said == Counter((str(each.decision), each.reason, each.rule, each.detail) for each in told)
    rejected = Counter(case.verdict.decision.reject for case in table if case.verdict.decision.kind is Kind.REJECT)
    assert sum((hits(world, family, codes) for family in (4, 6)), Counter[RejectWith | None]()) == rejected


def hits(lab: Lab, family: int, codes: Mapping[str, RejectWith]) -> Counter[RejectWith | None]:
    """How many packets came back to be rejected, by the answer that was wanted."""
    listed = lab.gateway.run(iptables[family], "-nvxL", "FORWARD").stdout
    found = re.findall(r"^ *(\d+) .* mark match (\S+)", listed, re.MULTILINE)
    return Counter({codes[mark]: int(packets) for packets, mark in found if packets != "0"})


ROWS = [
    ("saddr: 192.0.2.0/25", "-s 192.0.2.0/25", "", "ip saddr 192.0.2.0/25"),
    ("saddr: 2001:db8:1::/64", "", "-s 2001:db8:1::/64", "ip6 saddr 2001:db8:1::/64"),
    ("daddr: 198.51.100.7", "-d 198.51.100.7", "", "ip daddr 198.51.100.7"),
    ("daddr: {not: 198.51.100.7}, family: ipv4", "! -d 198.51.100.7", "", "ip daddr != 198.51.100.7"),
    ("protocol: udp", "-p udp", "-p udp", "meta l4proto udp"),
    ("protocol: {not: udp}", "! -p udp", "! -p udp", "meta l4proto != udp"),
    ("protocol: esp", "-p esp", "-p esp", "meta l4proto esp"),
    ("protocol: tcp, dport: 22", "-p tcp --dport 22", "-p tcp --dport 22", "tcp dport 22"),
    ("protocol: tcp, dport: {not: 22}", "-p tcp ! --dport 22", "-p tcp ! --dport 22", "tcp dport != 22"),
    ("protocol: udp, dport: 22-2000", "-p udp --dport 22:2000", "-p udp --dport 22:2000", "udp dport 22-2000"),
    ("protocol: udp, sport: 4001", "-p udp --sport 4001", "-p udp --sport 4001", "udp sport 4001"),
    ("ttl: {lt: 10}", "-m ttl --ttl-lt 10", "-m hl --hl-lt 10", "ip ttl < 10", "ip6 hoplimit < 10"),
    (
        "tcp.flags: 'syn / fin,syn,rst,ack'",
        "-p tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        "-p tcp --tcp-flags FIN,SYN,RST,ACK SYN",
        "tcp flags & (fin|syn|rst|ack) == syn",
    ),
    ("length: 0-60", "-m length --length 0:60", "-m length --length 0:60", "meta length 0-60"),
    ("icmp.type: echo-request", "-p icmp --icmp-type echo-request", "", "icmp type echo-request"),
    ("icmpv6.type: echo-request", "", "-p icmpv6 --icmpv6-type echo-request", "icmpv6 type echo-request"),
]
"""A condition of a policy, and the same for iptables, for ip6tables, and for nft, which may need two."""


def packets() -> list[Packet]:
    """Of both families, with and without what the rows ask for."""
    ends = [
        {"saddr": source, "daddr": destination}
        for sources, destinations in (
            (("192.0.2.1", "192.0.2.200"), ("198.51.100.7", "198.51.100.8")),
            (("2001:db8:1::1", "2001:db8:2::1"), ("2001:db8:9::7",)),
        )
        for source, destination in itertools.product(sources, destinations)
    ]
    above: list[Mapping[str, object]] = [
        *({"protocol": "udp", "sport": sport, "dport": dport} for sport in (4001, 5) for dport in (21, 22, 2000, 2001)),
        *(
            {"protocol": "tcp", "dport": dport, "tcp.flags": flags}
            for dport in (22, 23)
            for flags in ("syn", "syn,ack", "ack")
        ),
        *({"protocol": "udp", "dport": 9, "payload": "x" * length} for length in (1, 12, 13, 32, 33, 900)),
        *({"protocol": "esp", "ttl": ttl} for ttl in (9, 10)),
    ]
    echoes = [{"saddr": "192.0.2.1", "icmp.type": kind} for kind in ("echo-request", "echo-reply")]
    echoes += [{"saddr": "2001:db8:1::1", "icmpv6.type": kind} for kind in ("echo-request", "echo-reply")]
    described = [{**pair, **rest} for pair, rest in itertools.product(ends, above)] + echoes
    return [build({"hook": "forward", **each}) for each in described]


def counted_by_iptables(lab: Lab, family: int) -> list[int]:
    """Packets by rule, for all rows; 0 for those that the family has no word for."""
    listed = lab.gateway.run(f"{iptables[family]}-save", "-c", "-t", "mangle").stdout
    by_row = {int(row): int(count) for count, row in re.findall(r"^\[(\d+):.* row(\d+)$", listed, re.MULTILINE)}
    return [by_row.get(number, 0) for number in range(len(ROWS))]


@pytest.mark.needs("nft")
def test_the_kernels_own_rules_match_the_same_packets(world: Lab) -> None:
    """Row by row: as many packets match by qfilter, by iptables and by nft."""
    listed = "".join(
        f"  - {{id: row{number}, match: {{{row[0]}}}, count: c{number}}}\n" for number, row in enumerate(ROWS)
    )
    text = f"version: 1\ndefault: {{forward: drop}}\nrules:\n{listed}"
    for number, (_, v4, v6, *_) in enumerate(ROWS):
        for family, words in ((4, v4), (6, v6)):
            if words:
                comment = ("-m", "comment", "--comment", f"row{number}")
                world.gateway.run(iptables[family], "-t", "mangle", "-A", "FORWARD", *words.split(), *comment)
    table = "".join(f"{words} counter name row{number}\n" for number, row in enumerate(ROWS) for words in row[3:])
    counters = "".join(f"counter row{number} {{}}\n" for number in range(len(ROWS)))
    chain = f"chain every {{ type filter hook forward priority mangle;\n{table}}}"
    world.gateway.run("nft", "-f", "-", stdin=f"table inet rows {{\n{counters}{chain}\n}}\n")
    rules(world.gateway, "FORWARD -i lan -j NFQUEUE")
    sending = packets()
    with in_force(world.gateway, text) as service:
        assert inject(world.client, map(sent, sending)) == len(sending)
        wait_until(lambda: judged(service).total() == len(sending), "all should be judged")
        ours = [row.tally.packets for row in service.report().rules]
    listed = world.gateway.run("nft", "list", "counters", "table", "inet", "rows").stdout
    by_nft = {name: int(count) for name, count in re.findall(r"counter (\w+) \{\s+packets (\d+)", listed)}
    by_iptables = zip(*(counted_by_iptables(world, family) for family in (4, 6)), strict=True)
    names = [row[0] for row in ROWS]
    expected = dict(zip(names, ours, strict=True))
    assert expected == dict(zip(names, map(sum, by_iptables), strict=True))
    assert expected == {name: by_nft[f"row{number}"] for number, name in enumerate(names)}
    assert all(0 < count < len(sending) for count in ours)

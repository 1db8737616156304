"""Policies of many rules and the packets for them, made from a seed: hundreds of rules are too many for hypothesis.

Rules look at few hosts, ports and texts, so that many match, overlap and shadow each other, and the native engine's
index has dimensions of every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from qfilter.errors import PolicyError
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.rule import Count, Limit, Log, Rule, Scope, SetMark, SetOperation, UpdateSet
from qfilter.model.verdict import Decision, Kind, RejectWith
from tests.fuzz.generated import Written, policy_of
from tests.unit.engine import wire

Made = Callable[[Random], object]


def _of(*choices: object) -> Made:
    return lambda random: random.choice(choices)


def _numbers(low: int, high: int, *more: object) -> Made:
    def made(random: Random) -> object:
        one, other = sorted(random.randint(low, high) for _ in range(2))
        some = random.sample(range(low, high + 1), 3)
        forms = (one, one, f"{one}-{other}", {"lt": other or 1}, {"ge": one}, some, {"not": one}, {"not": some})
        return random.choice((*forms, *more))

    return made


def _addresses(random: Random) -> object:
    four, six = f"10.0.0.{random.randrange(16)}", f"2001:db8::{random.randrange(16):x}"
    forms = (
        four,
        six,
        [four, six],
        f"10.0.0.{random.choice([0, 4, 8])}/{random.choice([30, 31, 32])}",
        f"2001:db8::{random.choice([0, 4, 8])}/{random.choice([126, 127, 128])}",
        f"10.0.0.{random.randrange(8)}-10.0.0.{random.randrange(8, 16)}",
        {"not": [four, six, "10.0.0.8/29"]},
        ["10.0.0.0/28", "2001:db8::/124"],
        "$hosts",
        "$seen",
    )
    return random.choice(forms)


def _text(random: Random, most: int = 9) -> str:
    return "".join(random.choices("abG", k=random.randint(1, most)))


def _payloads(random: Random) -> object:
    forms: tuple[object, ...] = (
        {"contains": _text(random)},
        {"contains": _text(random, 3)},
        {"contains": "ab" * random.randint(20, 40)},
        {"any": [{"contains": _text(random)}, {"starts_with": _text(random, 2)}]},
        {"starts_with": _text(random, 3)},
        {"ends_with": _text(random, 3)},
        {"not": {"contains": _text(random, 3)}},
        {"regex": random.choice(["^a+b", "(aa|bb)G", "a.b$", "b{3,}", "(?i)gA", "[^ab]", "abab.*G", "^$"])},
        {"length": random.choice(["0-4", "5-60", {"gt": 40}, 0])},
        {"hex": random.choice(["61 62", "00", "47"])},
    )
    found = random.choice(forms)
    return found["any"] if isinstance(found, dict) and "any" in found else found


def _bytes(random: Random) -> object:
    base, offset = random.choice([("network", 8), ("network", 12), ("transport", 2), ("payload", 0), ("payload", 30)])
    test = {
        "base": base,
        "offset": offset + random.randrange(2),
        "value": random.choice(["61", "00 10", "0a 00", "06"]),
    }
    return random.choice((test, {"not": test}))


_KEYS: dict[str, Made] = {
    "saddr": _addresses,
    "daddr": _addresses,
    "sport": _numbers(1, 12, "$ports", "$knocked"),
    "dport": _numbers(1, 12, "$ports", "$knocked"),
    "protocol": _of(
        "tcp", "udp", ["tcp", "udp"], {"not": "tcp"}, "1-17", "icmpv6", "$numbers", {"not": ["udp", "gre"]}
    ),
    "ttl": _numbers(1, 8, "$numbers"),
    "dscp": _numbers(0, 7),
    "length": _numbers(20, 120),
    "icmp.type": _numbers(0, 15),
    "icmp.code": _numbers(0, 3),
    "icmpv6.type": _numbers(126, 137),
    "icmpv6.code": _numbers(0, 3),
    "tcp.flags": _of("syn", "syn / fin,syn,rst,ack", "ack", {"not": "syn"}, ["syn,ack", "rst"], "psh / psh"),
    "tcp.mss": _numbers(1455, 1465),
    "tcp.options": _of("maxseg", {"not": "maxseg"}, [1, 4], "0-3"),
    "udp.length": _numbers(8, 40),
    "iifname": _of("eth0", "eth1", "eth*", ["eth0", "lo"], {"not": "eth0"}, "$words"),
    "oifname": _of("eth1", {"not": "eth1"}, {"starts_with": "e"}),
    "mark": _numbers(0, 15, "0x1/0x1", "0/0x3", {"not": "0x2/0x2"}),
    "family": _of("ipv4", "ipv6"),
    "fragment": _of("whole", "first", "later", {"not": "whole"}, ["first", "later"]),
    "ip.id": _numbers(0, 9),
    "ip.df": _of(0, 1),
    "ip.options": _of("ra", {"not": "ra"}, "nop"),
    "ip6.exthdrs": _of("dst", {"not": "frag"}, ["rt", "hbh"]),
    "ip6.routing": _of(2, 4, {"not": 4}),
    "hook": _of("input", {"not": "input"}, ["forward", "output"]),
    "checksum": _of("good", "bad"),
    "uid": _numbers(0, 3),
    "hour": _numbers(0, 23),
    "weekday": _of("monday", {"not": "thursday"}),
    "ct.state": _of("established", ["new", "related"], {"not": "invalid"}),
    "ct.mark": _numbers(0, 3, "0x1/0x1"),
    "gre.key": _of(0, {"not": 1}),
    "payload": _payloads,
    "bytes": _bytes,
    "inner.saddr": _addresses,
    "inner.dport": _numbers(1, 12),
    "inner.inner.protocol": _of("tcp", {"not": "udp"}),
}
_ALWAYS = ("saddr", "daddr", "sport", "dport", "protocol", "iifname", "payload")


def _match(random: Random, depth: int) -> Written:
    keys = random.choices(_ALWAYS, k=random.randint(0, 4)) + random.choices(tuple(_KEYS), k=random.randint(0, 2))
    match: dict[str, object] = {key: _KEYS[key](random) for key in keys}
    if depth and random.random() < 0.3:
        block = random.choice(["any", "all", "not"])
        match[block] = [_match(random, depth - 1) for _ in range(random.randint(1, 3))]
    return match or {"ttl": {"gt": 0}}


def rules_of(matches: list[Written]) -> tuple[Policy, tuple[Rule, ...]]:
    """A policy with all sets, and a rule for each match that the loader takes. None has a verdict, so none is dead."""
    first = policy_of([{"match": {"ttl": 1}, "count": "some"}]).rules[-1].at.line
    while True:
        try:
            policy = policy_of([{"match": match, "count": "some"} for match in matches])
        except PolicyError as mistakes:
            refused = {found.at.line - first for found in mistakes.diagnostics}  # a line a rule
            if not refused <= set(range(len(matches))):
                raise
            matches = [match for number, match in enumerate(matches) if number not in refused]
        else:
            return policy, policy.rules[-len(matches) :]


_VERDICTS = (
    Decision(Kind.ACCEPT),
    Decision(Kind.DROP),
    Decision(Kind.REJECT, reject=RejectWith.TCP_RESET),
    Decision(Kind.QUEUE, queue=7),
)
_ACTIONS = (
    (),
    (),
    (),
    (Log("a"),),
    (Count("some"),),
    (SetMark(1, 3), Count("more")),
    (SetMark(8, 8),),
    (UpdateSet(SetOperation.ADD, "seen", "saddr", 2.0),),
    (UpdateSet(SetOperation.DELETE, "seen", "daddr"), Log()),
    (UpdateSet(SetOperation.ADD, "knocked", "dport"),),
)
_LIMITS = (
    Limit(1, 1, 2, ("saddr",)),
    Limit(2, 60, 3, ("daddr", "dport"), over=True),
    Limit(1, 1, 1),
    Limit(1, 1, 1, ("iifname", "payload")),
)


def wide_policy(random: Random, count: int, *, remembers: bool) -> Policy:
    """Nearly `count` rules, some inside others. Without `remembers` every packet is judged for itself."""
    policy, matched = rules_of([_match(random, 2) for _ in range(count)])
    deciding = random.choice([0.01, 0.1, 0.6])
    numbered = iter(enumerate(matched))

    def rules(depth: int, most: int) -> Iterator[Rule]:
        for _ in range(most):
            if (found := next(numbered, None)) is None:
                return
            yield rule(*found, depth)

    def rule(number: int, template: Rule, depth: int) -> Rule:
        inside = tuple(rules(depth - 1, random.randint(1, 6))) if depth and random.random() < 0.15 else ()
        decides = not inside and random.random() < deciding
        flow = remembers and decides and random.random() < 0.2
        return replace(
            template,
            id=f"r{number}",
            hooks=tuple(random.sample(tuple(Hook), 2)) if random.random() < 0.1 else (),
            actions=random.choice(_ACTIONS) if remembers else (),
            limit=random.choice(_LIMITS) if remembers and random.random() < 0.1 else None,
            verdict=random.choice(_VERDICTS) if decides else None,
            scope=Scope.FLOW if flow else Scope.PACKET,
            rules=inside,
        )

    return replace(policy, rules=(*policy.rules[:2], *rules(3, count)))


def wide_packets(random: Random, count: int) -> Iterator[Packet]:
    """Packets that such rules are about; some come again, some are answered, some are cut or damaged."""
    sent: list[Packet] = []
    while len(sent) < count:
        again = random.choice(sent) if sent and random.random() < 0.2 else None
        sent.append(_answer(again) if again and random.random() < 0.5 else again or _packet(random))
    yield from sent


def _answer(packet: Packet) -> Packet:
    """The same with both ends exchanged where it is IPv4 without options; it comes in where the other went out."""
    data = packet.data
    if data[:1] == b"\x45" and len(data) >= 24:
        data = data[:12] + data[16:20] + data[12:16] + data[22:24] + data[20:22] + data[24:]
    return replace(packet, data=data, iifname=packet.oifname, oifname=packet.iifname)


def _packet(random: Random) -> Packet:
    data = bytearray(_network(random, 2))
    if random.random() < 0.1:
        data[random.randrange(len(data))] = random.randrange(256)
    whole, missing = len(data), 0
    if random.random() < 0.1:
        del data[random.randrange(whole) :]
        missing = whole - len(data)
    return Packet(
        data=bytes(data),
        hook=random.choice(tuple(Hook)),
        wire_length=len(data) + missing,
        iifname=random.choice(["eth0", "eth1", "lo", None]),
        oifname=random.choice(["eth0", "eth1", None]),
        mark=random.choice([0, 0, 1, 2, 8]),
        uid=random.choice([None, 0, 2]),
        timestamp=random.choice([None, random.uniform(0, 4e9)]),
        ct_state=random.choice([None, *FIELDS["ct.state"].names.values()]),
        ct_mark=random.choice([None, 0, 1, 2]),
        checksum_ready=random.random() < 0.8,
    )


def _network(random: Random, depth: int) -> bytes:
    six = random.random() < 0.4
    protocol, body = _transport(random, six, depth)
    offset, more = random.choice([(0, False)] * 6 + [(0, True), (8, False), (1480, True)])
    body = body[: len(body) // 8 * 8] if more else body
    if six:
        return _six(random, protocol, body, offset, more=more)
    options = random.choice([b""] * 4 + [b"\x94\4\0\0", b"\1\1\1\0"])
    data = bytearray(wire.ipv4(body, protocol, options=options, offset=offset, more=more))
    data[1], data[5], data[8] = random.randrange(8) << 2, random.randrange(9), random.randint(1, 8)
    data[6] |= random.choice([0, 0x40]) if not more and not offset else 0
    data[12:20] = b"".join(bytes([10, 0, 0, random.randrange(16)]) for _ in range(2))
    return bytes(data)


_CHAINS: tuple[tuple[int, ...], ...] = (
    (),
    (),
    (),
    (wire.DESTINATION,),
    (wire.ROUTING, wire.HBH),
    (wire.DESTINATION, wire.ROUTING),
)
"""Extension headers, the last one first."""


def _six(random: Random, protocol: int, body: bytes, offset: int, *, more: bool) -> bytes:
    following = protocol
    if offset or more:
        following, body = wire.FRAGMENT, wire.frag(protocol, offset, more=more) + body
    for kind in random.choice(_CHAINS):
        content = b"\4\0\0\0\0\0" if kind == wire.ROUTING else b"\1\4\0\0\0\0"
        following, body = kind, wire.ext(following, content) + body
    data = bytearray(wire.ipv6(body, following))
    data[7] = random.randint(1, 8)
    data[23], data[39] = random.randrange(16), random.randrange(16)
    return bytes(data)


def _transport(random: Random, six: bool, depth: int) -> tuple[int, bytes]:
    sport, dport = random.choice([22, 80, *range(1, 13)]), random.choice([22, 80, *range(1, 13)])
    payload = random.choice([b"", bytes(8), b"ab" * random.randrange(60), _text(random, 40).encode()])
    kind = random.randrange(10)
    if kind < 4:
        flags, options = random.choice([2, 18, 16, 24, 4]), random.choice([b"", b"\2\4\5\xb4", b"\1\1\4\2"])
        return wire.TCP, wire.tcp(payload, sport=sport, dport=dport, flags=flags, options=options)
    if kind < 7:
        return wire.UDP, wire.udp(payload, sport=sport, dport=dport)
    if kind == 7:
        number = random.randint(126, 137) if six else random.randrange(16)
        return wire.ICMPV6 if six else wire.ICMP, wire.icmp(number, random.randrange(4)) + payload
    if kind == 8 and depth:
        inner = _network(random, depth - 1)
        six_inside = inner[0] >> 4 == 6
        tunnels = (
            (wire.SIXINFOUR if six_inside else wire.IPIP, inner),
            (wire.GRE, b"\x20\0" + (b"\x86\xdd" if six_inside else b"\x08\0") + bytes(4) + inner),
        )
        return random.choice(tunnels)
    return random.choice(
        [(wire.SCTP, wire.udp(sport=sport, dport=dport) + bytes(8)), (wire.ESP, bytes(12)), (89, payload)]
    )

"""Policies and packets that hypothesis makes up: policies from the field table, packets from headers, lies and damage.

`examples` says how many; QFILTER_FUZZ=50 in the environment makes it fifty times as many, for a night.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import PolicyError
from qfilter.fields import FIELDS, MAX_DEPTH, Field, Layer, Type
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.rule import Rule
from qfilter.policy.load import loads
from tests.unit.engine import wire

Written = Mapping[str, object]
"""A part of a policy as it is written: keys to texts, numbers, lists and mappings."""

TIMES = int(os.environ.get("QFILTER_FUZZ", "1"))


def examples(number: int) -> settings:
    """So many examples, or a multiple of them."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(max_examples=number * TIMES, deadline=None, suppress_health_check=slow)


# Policies

SETS = """
sets:
  hosts: {type: address, elements: [192.0.2.1, 198.51.100.0/24, '2001:db8::/64']}
  ports: {type: port, elements: [22, 80, 1024-2048]}
  numbers: {type: number, elements: [2, 6, 17, 64]}
  words: {type: string, elements: [lo, GET, '02:00:00:00:00:01']}
  seen: {type: address, dynamic: true, timeout: 5, size: 3}
  knocked: {type: port, dynamic: true, size: 4}
"""
HEAD = (
    "version: 1\ndefault: {prerouting: drop, input: drop, forward: drop, output: drop, postrouting: drop}\n"
    "on_failure: {malformed: drop, truncated: drop, fragment: drop, error: drop, deadline: drop}\n"
)
_NAMES = {Type.ADDRESS: ("hosts", "seen"), Type.TEXT: ("words",), Type.BYTES: ("words",)}
_USE_ALL_SETS: tuple[Written, ...] = (
    {
        "match": {"iifname": "never", "saddr": "$hosts", "dport": "$ports", "ttl": "$numbers", "payload": "$words"},
        "count": "all",
    },
    {"match": {"iifname": "never", "any": [{"saddr": "$seen"}, {"sport": "$knocked"}]}, "count": "more"},
)
"""Every set must be used. They come first, where no rule can make them dead, and are false for every packet."""
ADDRESSES = ("192.0.2.1", "198.51.100.1", "2001:db8::1", "2001:db8::2")
_ADDRESS_VALUES = (
    *ADDRESSES,
    "192.0.2.0/24",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "192.0.2.0-192.0.2.1",
    "10.0.0.0/8",
)
_TEXTS = ("lo", "eth0", "GET", "G", "a", "02:00:00:00:00:01")
_REGEXES = ("^G", "[a-e]+", "T", "^eth[0-9]$", ".", r"\x00")
_FLAGS = ("syn", "syn,ack", "none", "syn / fin,syn,rst,ack", "ack / ack", "fin,urg")
_SCAPY = (
    ("scapy.DNSQR.qname", st.sampled_from([{"contains": "a"}, {"regex": "^."}, "a."])),
    ("scapy.IP.ttl", st.sampled_from([64, "1-63", {"gt": 3}])),
    ("scapy.TCP.flags", st.sampled_from([2, 18, {"not": 2}])),
    ("scapy.Raw.load", st.sampled_from([{"contains": "GET"}, {"length": "0-9"}, "GET"])),
    ("scapy.TCP.options", st.sampled_from([{"starts_with": "MSS"}, {"not": "NOP"}])),
    ("scapy.IPv6ExtHdrFragment.m", st.sampled_from([0, 1, {"not": 1}])),
)


def written(value: object) -> str:
    """YAML of a value: what is quoted here cannot be taken for anything but text, but for references."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{written(key)}: {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        return value if value.startswith("$") else json.dumps(value)
    return json.dumps(value)


def policy_of(rules: Sequence[Written], head: str = HEAD) -> Policy:
    """The policy of some rules, with every set of SETS. Raises PolicyError."""
    return _policy_of(map(written, rules), head)


def _policy_of(rules: Iterable[str], head: str = HEAD) -> Policy:
    lines = "".join(f"  - {rule}\n" for rule in (*map(written, _USE_ALL_SETS), *rules))
    return loads(head + SETS + "rules:\n" + lines)


@cache
def _loads_alone(rule: str) -> bool:
    try:
        _policy_of([rule])
    except PolicyError:
        return False
    return True


def _numbers(row: Field) -> SearchStrategy[object]:
    near = [row.low, row.high, *(number for number in (0, 1, 2, 6, 17, 22, 53, 64, 80, 1024) if number <= row.high)]
    number = st.sampled_from(near) | st.integers(row.low, row.high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    orders = st.dictionaries(st.sampled_from(["lt", "le", "gt", "ge"]), number, min_size=1, max_size=2)
    named = st.sampled_from(sorted(row.names)) if row.names else number
    return st.one_of(number, ranges, orders, named, number)


def _texts(row: Field) -> SearchStrategy[object]:
    text = st.sampled_from(_TEXTS) | st.text("GETabc0:", min_size=1, max_size=4)
    plain = text if row.type is Type.BYTES else text | text.map(lambda start: start + "*")
    forms = dict.fromkeys(("equals", "contains", "starts_with", "ends_with"), text)
    return st.one_of(
        plain,
        st.one_of(*(st.fixed_dictionaries({form: inner}) for form, inner in forms.items())),
        st.fixed_dictionaries({"regex": st.sampled_from(_REGEXES)}),
        st.fixed_dictionaries({"hex": st.binary(min_size=1, max_size=3).map(bytes.hex)}),
        st.fixed_dictionaries({"length": st.sampled_from(["0-4", 0, {"gt": 3}, {"not": 3}])}),
    )


def _sets(row: Field) -> tuple[str, ...]:
    if row.type is Type.NUMBER:
        return ("ports", "knocked") if row.name in ("sport", "dport") else ("numbers",)
    return _NAMES.get(row.type, ())


@cache
def values(name: str) -> SearchStrategy[object]:
    """What a policy may compare a field with, in every form."""
    row = FIELDS[name]
    simple: SearchStrategy[object] = {
        Type.NUMBER: _numbers(row),
        Type.MARK: st.one_of(_numbers(row), st.sampled_from(["0x1/0x1", "0/0xff", "0x10/0xf0"])),
        Type.FLAGS: st.sampled_from(_FLAGS),
        Type.ADDRESS: st.sampled_from(_ADDRESS_VALUES),
        Type.TEXT: _texts(row),
        Type.BYTES: _texts(row),
    }[row.type]
    if _sets(row):
        simple = st.one_of(simple, simple, simple, st.sampled_from([f"${name}" for name in _sets(row)]))

    def wider(inner: SearchStrategy[object]) -> SearchStrategy[object]:
        return st.lists(inner, min_size=1, max_size=3) | inner.map(lambda one: {"not": one})

    return st.recursive(simple, wider, max_leaves=3)


def _field_tests() -> SearchStrategy[Written]:
    names = st.sampled_from(sorted(FIELDS))
    inner = st.sampled_from(sorted(name for name, row in FIELDS.items() if row.layer is not Layer.META))
    deep = st.tuples(st.integers(1, MAX_DEPTH), inner)
    plain = names.flatmap(lambda name: values(name).map(lambda value: {name: value}))
    return st.one_of(
        plain,
        plain,
        plain,
        deep.flatmap(lambda pair: values(pair[1]).map(lambda value: {"inner." * pair[0] + pair[1]: value})),
    )


def _bytes_tests() -> SearchStrategy[Written]:
    test = st.fixed_dictionaries(
        {
            "base": st.sampled_from(["network", "transport", "payload"]),
            "offset": st.integers(0, 60),
            "value": st.binary(min_size=1, max_size=2).map(bytes.hex),
        }
    )
    return (test | test.map(lambda one: {"not": one})).map(lambda one: {"bytes": one})


def _scapy_tests() -> SearchStrategy[Written]:
    return st.sampled_from(_SCAPY).flatmap(lambda pair: pair[1].map(lambda value: {pair[0]: value}))


def matches(*, scapy: bool = True) -> SearchStrategy[Written]:
    """A `match:` mapping: keys that are ANDed, and blocks inside blocks."""
    leaves = [_field_tests(), _field_tests(), _field_tests(), _bytes_tests(), *([_scapy_tests()] if scapy else [])]

    def wider(inner: SearchStrategy[Written]) -> SearchStrategy[Written]:
        some = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
            some.map(lambda parts: {"any": parts}),
            some.map(lambda parts: {"all": parts}),
            some.map(lambda parts: {"not": parts}),
            inner.map(lambda part: {"not": part}),
        )

    return st.recursive(st.one_of(*leaves), wider, max_leaves=4)


@st.composite
def rules(draw: st.DrawFn, depth: int = 1, *, actions: bool = True, scapy: bool = True) -> Written:
    """One rule that the loader takes."""
    rule: dict[str, object] = {"match": draw(matches(scapy=scapy))} if draw(st.integers(0, 9)) else {}
    if draw(st.integers(0, 4)) == 0:
        rule["hook"] = draw(st.sampled_from(list(Hook))).value
    if actions:
        rule |= draw(st.sampled_from(_ACTIONS))
    if depth and draw(st.integers(0, 3)) == 0:
        inner = draw(st.lists(rules(depth - 1, actions=actions, scapy=scapy), min_size=1, max_size=3))
        rule["rules"] = inner
    else:
        rule["verdict"] = draw(st.sampled_from(VERDICTS))
        rule |= {"scope": "flow"} if actions and draw(st.integers(0, 3)) == 0 else {}
    if not _loads_alone(written(rule)):
        rule.pop("match", None)
    return rule


VERDICTS = ("accept", "accept", "drop", "reject", "reject tcp-reset")
_ACTIONS: tuple[Written, ...] = (
    {},
    {},
    {"log": True},
    {"count": "some"},
    {"mark": {"set": 1, "mask": 15}},
    {"add": {"set": "seen", "element": "saddr", "timeout": 2}},
    {"delete": {"set": "seen", "element": "daddr"}},
    {"add": {"set": "knocked", "element": "dport"}},
    {"limit": {"rate": "1/second", "burst": 2, "per": "saddr"}},
    {"limit": {"rate": "1/second", "burst": 1, "over": True}},
    {"capture": {"file": "a.pcapng", "max": "1 KiB"}},
)


@st.composite
def policies(draw: st.DrawFn, *, actions: bool = True, scapy: bool = True) -> Policy:
    """A policy of at most five rules on all hooks, none of them dead, whose failures and defaults all drop."""
    found = draw(st.lists(rules(actions=actions, scapy=scapy), min_size=1, max_size=5))
    kept: list[Written] = []
    for rule in found:
        for form in (rule, {**rule, "rules": []} if "rules" in rule else rule):
            with suppress(PolicyError):
                policy_of([*kept, form])
                kept.append(form)
                break
    return policy_of(kept)


def condition_rule(match: Written) -> Rule | None:
    """A rule with that match, or None where the loader refuses it."""
    rule = {"id": "it", "match": match, "verdict": "accept"}
    return policy_of([rule]).rules[-1] if _loads_alone(written(rule)) else None


# Packets

_PORTS = st.sampled_from([22, 53, 80, 1024, 4789]) | st.integers(1, 0xFFFF)
_PAYLOADS = st.sampled_from([b"", b"GET / a", b"abc", bytes(40), b"G\xff" * 20]) | st.binary(max_size=48)
_DNS = b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\1b\0\0\1\0\1"
_TCP_OPTIONS = st.sampled_from([b"", b"\2\4\5\xb4", b"\2\4\5\xb4\1\1\4\2", b"\1\1\1\0"])
_IP_OPTIONS = st.sampled_from([b"", b"", b"\x94\4\0\0", b"\1\1\1\0"])


@st.composite
def _transports(draw: st.DrawFn, depth: int, six: bool) -> tuple[int, bytes]:
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "udp", "dns", "icmp", "other", "dccp", "sctp", "tunnel"]))
    sport, dport = draw(_PORTS), draw(_PORTS)
    payload = draw(_PAYLOADS)
    if kind == "tcp":
        flags = draw(st.sampled_from([2, 18, 16, 24, 1 | 16, 4]))
        return wire.TCP, wire.tcp(payload, flags=flags, options=draw(_TCP_OPTIONS), sport=sport, dport=dport)
    if kind == "udp":
        return wire.UDP, wire.udp(payload, sport=sport, dport=dport)
    if kind == "dns":
        return wire.UDP, wire.udp(_DNS, sport=1024, dport=53)
    if kind == "icmp":
        return wire.ICMPV6 if six else wire.ICMP, wire.icmp(draw(st.integers(0, 255))) + payload
    if kind == "dccp":
        return wire.DCCP, wire.dccp(sport=sport, dport=dport) + payload
    if kind == "sctp":
        return wire.SCTP, wire.udp(sport=sport, dport=dport) + bytes(4) + payload
    if kind == "tunnel" and depth:
        return draw(_tunnels(depth))
    return draw(st.sampled_from([50, 51, 47, 59, 253])), bytes([59, 1]) + bytes(14) + payload


@st.composite
def _tunnels(draw: st.DrawFn, depth: int) -> tuple[int, bytes]:
    six = draw(st.booleans())
    inner = draw(_networks(depth - 1, six=six))
    ethertype = b"\x86\xdd" if six else b"\x08\x00"
    frame = bytes(12) + ethertype + inner
    return draw(
        st.sampled_from(
            [
                (wire.SIXINFOUR if six else wire.IPIP, inner),
                (wire.GRE, b"\0\0" + ethertype + inner),
                (wire.GRE, b"\x20\0" + ethertype + bytes(4) + inner),
                (wire.UDP, wire.udp(b"\x08" + bytes(7) + frame, dport=4789)),
            ]
        )
    )


@st.composite
def _networks(draw: st.DrawFn, depth: int, six: bool) -> bytes:
    protocol, body = draw(_transports(depth, six))
    offset = draw(st.sampled_from([0, 0, 0, 0, 8, 1480]))
    more = draw(st.sampled_from([False, False, False, True]))
    if more:
        body = body[: len(body) // 8 * 8]
    if not six:
        return wire.ipv4(body, protocol, options=draw(_IP_OPTIONS), offset=offset, more=more)
    chain = draw(st.lists(st.sampled_from([wire.DESTINATION, wire.ROUTING, wire.AH]), max_size=3))
    chain += [wire.FRAGMENT] if more or offset or draw(st.integers(0, 5)) == 0 else []
    following, data = protocol, body
    for kind in reversed(chain):
        if kind == wire.FRAGMENT:
            data = wire.frag(following, offset, more=more) + data
        elif kind == wire.AH:
            data = bytes([following, 2]) + bytes(14) + data
        else:
            content = b"\4\0\0\0\0\0" if kind == wire.ROUTING else b"\1\4\0\0\0\0"
            data = wire.ext(following, content) + data
        following = kind
    return wire.ipv6(data, following)


def sound_bytes() -> SearchStrategy[bytes]:
    """An IP packet whose headers are (nearly always) consistent, tunnels and fragments among them."""
    return st.booleans().flatmap(lambda six: _networks(2, six=six))


@st.composite
def _damaged_bytes(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(sound_bytes()))
    for _ in range(draw(st.integers(1, 4))):
        at = min(int(draw(st.floats(0, 1)) ** 2 * len(data)), len(data) - 1)
        data[at] = draw(st.integers(0, 255))
    return bytes(data)


@st.composite
def packets(draw: st.DrawFn, data: SearchStrategy[bytes] | None = None) -> Packet:
    """Any bytes, on any hook, with what the kernel may know about them; some were cut."""
    anything = st.one_of(sound_bytes(), sound_bytes(), _damaged_bytes(), st.binary(max_size=80))
    found = draw(anything if data is None else data)
    missing = draw(st.sampled_from([0, 0, 0, 1, 20, 65000])) if data is None else 0
    return Packet(
        data=found,
        hook=draw(st.sampled_from(list(Hook))),
        wire_length=len(found) + missing,
        iifname=draw(st.sampled_from([None, "lo", "eth0"])),
        oifname=draw(st.sampled_from([None, "lo", "eth1"])),
        mark=draw(st.sampled_from([0, 1, 0x10, 0xFFFF_FFFF])),
        uid=draw(st.sampled_from([None, 0, 1000])),
        ct_state=draw(st.sampled_from([None, *FIELDS["ct.state"].names.values()])),
        ct_mark=draw(st.sampled_from([None, 0, 0x10, 0xFFFF_FFFF])),
        hwaddr=draw(st.sampled_from([None, b"\2\0\0\0\0\1"])),
        timestamp=draw(st.sampled_from([None, 0.0, 1.7e9])),
        checksum_ready=draw(st.booleans()),
    )


def engine(policy: Policy, now: int = 0) -> ReferenceEngine:
    """A policy in force at a time that stands still."""
    return ReferenceEngine(policy, Clock(monotonic=lambda: now, wall=lambda: 0.0))

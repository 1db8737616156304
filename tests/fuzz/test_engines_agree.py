"""The native engine against the reference: the same verdict, reason, rule, words, mark, effects and counts, always.

`QFILTER_FUZZ=50 pytest tests/fuzz/test_engines_agree.py` compares fifty times as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.build import build
from qfilter.engine.decode import decode
from qfilter.engine.readers import read
from qfilter.model.hook import Hook
from qfilter.model.malformed import Malformed
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Decision, Kind
from qfilter.policy.load import load, loads
from tests.fuzz.engines import Both, compared
from tests.fuzz.generated import TIMES, Written, examples, packets, policies, sound_bytes
from tests.fuzz.test_corpus_policies import HEAD, POLICIES
from tests.fuzz.wide import rules_of, wide_packets, wide_policy
from tests.unit.engine import wire
from tests.unit.engine.test_corpus import CORPUS
from tests.unit.engine.test_corpus import packets as corpus_packets

ROOT = Path(__file__).parents[2]
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not here")
SECONDS = (0, 0, 1, 500_000_000, 1_000_000_000, 3_000_000_000)
ZONES = (UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=-11, minutes=-30)))


def like(packet: Packet, random: Random) -> Iterator[Packet]:
    """A packet and some that differ from it in one thing."""
    yield packet
    yield replace(packet, hook=random.choice(tuple(Hook)))
    yield replace(packet, mark=random.choice([0, 1, 0x11]), iifname=random.choice([None, "lo", "eth1"]))
    yield replace(packet, data=packet.data[: random.randint(0, len(packet.data))])
    for _ in range(2):
        data = bytearray(packet.data)
        if data:
            data[random.randrange(min(len(data), 60))] = random.randrange(256)
        yield replace(packet, data=bytes(data))


def test_generated_policies_and_packets() -> None:
    before = compared["verdicts"]

    @examples(110)
    @given(policies(scapy=False), st.lists(packets(), min_size=4, max_size=7), st.integers(0, 1 << 32))
    def agree(policy: Policy, sent: list[Packet], seed: int) -> None:
        random = Random(seed)
        every = [each for packet in sent for each in like(packet, random)]
        Both(policy).decide_all(random.sample(every, len(every)), lambda: random.choice(SECONDS))

    agree()
    assert compared["verdicts"] - before >= 2_600 * TIMES


def many_rules_agree(seed: int) -> None:
    random = Random(seed)
    both = Both(wide_policy(random, random.choice([50, 100, 200, 500]), remembers=seed % 2 == 0))
    try:
        both.decide_all(wide_packets(random, 50), lambda: random.choice(SECONDS))
    except AssertionError as difference:
        difference.add_note(f"seed {seed}")
        raise


def test_policies_of_many_rules() -> None:
    before = compared["verdicts"]
    for seed in range(50 * TIMES):
        many_rules_agree(seed)
    assert compared["verdicts"] - before == 2_500 * TIMES


@examples(60)
@given(policies(), st.lists(packets(sound_bytes()), min_size=1, max_size=4))
def test_rules_that_ask_scapy(policy: Policy, sent: list[Packet]) -> None:
    Both(policy).decide_all(sent)


def test_a_lie_that_python_finds_is_counted_by_its_code() -> None:
    either = "{any: [{inner.ttl: 1}, {scapy.DNSQR.qname: a.}]}"
    both = Both(loads(f"{HEAD}rules: [{{match: {either}, verdict: accept}}]"))
    vxlan = wire.ipv4(wire.udp(dport=4789), protocol=17)  # too short for what it carries
    both.decide_all([Packet(data=vxlan, hook=Hook.INPUT, wire_length=len(vxlan))])
    assert both.native.report().malformed == {Malformed.TRANSPORT_SHORT: 1}


@examples(40)
@given(policies(scapy=False), packets(sound_bytes()))
def test_every_cut_of_a_packet(policy: Policy, whole: Packet) -> None:
    Both(policy).decide_all(replace(whole, data=whole.data[:end]) for end in range(len(whole.data) + 1))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/conformance/policies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_the_table_of_verdicts_sends(path: Path) -> None:
    policy = load(str(path))
    for case in policy.tests:
        Both(policy).decide_all(build(fields) for fields in (*case.after, *[case.packet] * case.times))


@needs_corpus
def test_every_field_of_the_corpus() -> None:
    """Every row of the field table, of every packet and of what is inside its tunnels."""
    both = Both(loads(HEAD))
    for packet in corpus_packets():
        both.read_all(packet)


@examples(300)
@given(packets(), st.sampled_from(ZONES), st.none() | st.floats(-7e10, 3e11))
def test_every_field(packet: Packet, zone: timezone, timestamp: float | None) -> None:
    Both(loads(HEAD), zone=zone).read_all(replace(packet, timestamp=timestamp))


@needs_corpus
@pytest.mark.parametrize("rules", [rules for name, rules in POLICIES.items() if "scapy" not in name])
def test_the_corpus_through_policies(rules: str) -> None:
    Both(loads(f"{HEAD}rules:\n{rules}")).decide_all(corpus_packets(), lambda: 1_000_000)


def on_all_hooks(policy: Policy) -> Iterator[Packet]:
    """The corpus, one packet after the other on each hook of a policy."""
    hooks = list(policy.defaults)
    return (replace(packet, hook=hooks[i % len(hooks)]) for i, packet in enumerate(corpus_packets()))


@needs_corpus
@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_corpus_through_what_ships(path: Path) -> None:
    policy = load(str(path))
    Both(policy).decide_all(on_all_hooks(policy), lambda: 1_000_000)


def about(packet: Packet, random: Random) -> Written:
    """A match that the packet meets, and some of its neighbours."""
    found, match = decode(packet), dict[str, object]()
    for field in ("saddr", "daddr"):
        address = read(found, field)
        assert isinstance(address, IPv4Address | IPv6Address)
        length = min(random.choice([8, 16, 24, 32, 64, 128]), address.max_prefixlen)
        match[field] = str(ip_network((address, length), strict=False))
    for field in random.sample(["protocol", "sport", "dport", "ttl", "length", "tcp.flags", "icmp.type"], 3):
        number = read(found, field)
        if isinstance(number, int):
            match[field] = number if field == "tcp.flags" else f"{number}-{number + random.choice([0, 3])}"
    return match


@needs_corpus
def test_the_corpus_through_a_thousand_rules_about_it() -> None:
    random, sound = Random(1), [packet for packet in corpus_packets() if decode(packet).malformed is None]
    policy, rules = rules_of([about(packet, random) for packet in random.choices(sound, k=1100)])
    assert len(rules) >= 1000
    decisions = (Decision(Kind.ACCEPT), Decision(Kind.DROP), None)
    policy = replace(policy, rules=tuple(replace(rule, verdict=random.choice(decisions)) for rule in rules[:1000]))
    both = Both(policy)
    both.decide_all(on_all_hooks(policy))
    assert sum(each.tally.packets > 0 for each in both.native.report().rules) > 300

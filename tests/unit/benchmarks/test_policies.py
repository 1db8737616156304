"""The generated policies are what the figures say: the arena's packets fall through to the last rule or the default."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP

from benchmarks import policies
from benchmarks.arena import ECHO_PORT, FLOOD_PORTS, OTHER_PORT, SMALL, TCP_PORT
from qfilter import Packet, load

CLIENT, SERVER = "192.0.2.100", "198.51.100.100"
OUT, BACK = IP(src=CLIENT, dst=SERVER), IP(src=SERVER, dst=CLIENT)
TRAFFIC = {
    "first flood": OUT / UDP(sport=40_000, dport=FLOOD_PORTS[0]) / bytes(SMALL),
    "last flood": OUT / UDP(sport=60_000, dport=FLOOD_PORTS[-1]) / bytes(SMALL),
    "for scapy": OUT / UDP(sport=40_000, dport=OTHER_PORT) / bytes(SMALL),
    "ping": OUT / UDP(sport=32_768, dport=ECHO_PORT) / bytes(SMALL),
    "pong": BACK / UDP(sport=ECHO_PORT, dport=32_768) / bytes(SMALL),
    "stream": OUT / TCP(sport=33_000, dport=TCP_PORT, flags="A") / bytes(1_000),
    "its answers": BACK / TCP(sport=TCP_PORT, dport=33_000, flags="A"),
}


def verdicts(policy: Path) -> set[tuple[str, str | None]]:
    loaded = load(policy)
    told = [loaded.evaluate(Packet.from_bytes(bytes(packet), hook="forward")) for packet in TRAFFIC.values()]
    return {(str(verdict.decision), verdict.rule) for verdict in told}


@pytest.mark.parametrize(
    ("policy", "rules"),
    [
        (policies.header(10, 100), 10),
        (policies.header(1_000, 1), 1_000),
        (policies.header(10, 100, queues=4), 10),
        (policies.payload(), 121),
        (policies.live(100), 2),
        (policies.generation(1), 1_002),
        (policies.generation(2), 1_002),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else f"{value}",
)
def test_all_traffic_comes_to_the_last_rule(policy: Path, rules: int) -> None:
    assert verdicts(policy) == {("accept", "last")}
    assert len(load(policy).model.rules) == rules


@pytest.mark.parametrize("asked", [True, False])
def test_a_packet_for_scapy_is_accepted_by_the_last_rule_too(asked: bool) -> None:
    assert verdicts(policies.scapy(asked=asked)) == {("accept", "last")}


def test_flat_rules_are_the_same_for_all_three() -> None:
    count = 20
    assert verdicts(policies.flat(count)) == {("accept", None)}
    mine = policies.flat(count).read_text().splitlines()[-count:]
    iptables = policies.flat_iptables(count).splitlines()[1:-1]
    nft = policies.flat_nft(count).splitlines()[3:-2]
    assert len(iptables) == len(nft) == count
    for ours, its, theirs in zip(mine, iptables, nft, strict=True):
        source, port = its.split()[3].removesuffix("/32"), its.split()[7]
        assert f"{{saddr: {source}, protocol: udp, dport: {port}}}" in ours
        assert f"ip saddr {source} udp dport {port} drop" in theirs


def test_a_mix_of_two_generations_drops() -> None:
    one, two = (policies.generation(number).read_text().splitlines() for number in (1, 2))
    different = [number for number, (mine, its) in enumerate(zip(one, two, strict=True)) if mine != its]
    assert [one[number].split(",")[0].strip() for number in different] == ["- {id: first", "- {id: last"]
    mixed = policies.generation(1).with_name("mixed.yaml")
    mixed.write_text("\n".join([*one[:-1], two[-1]]))
    assert verdicts(mixed) == {("drop", None)}


def test_the_entries_of_a_set_are_as_many_as_said() -> None:
    entries = list(policies.addresses(1_000))
    assert len(set(entries)) == 1_000
    assert sum(":" in entry for entry in entries) == 100

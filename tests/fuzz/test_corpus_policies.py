"""tcpdump's half-broken packets through whole policies: counts that libpcap gives too, and what becomes of each packet.

tests/golden/corpus.txt says how many packets each policy decided for which reason; QFILTER_GOLDEN=write makes it anew.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Reason
from qfilter.policy.load import load, loads
from tests.unit.engine.test_corpus import CORPUS, packets

pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not here")
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/corpus.txt"

HEAD = "version: 1\ndefault: {input: accept}\n"
POLICIES = {
    "addresses": "  - {match: {saddr: [10.0.0.0/8, fe80::/10]}, verdict: drop}\n",
    "payload": "  - {match: {payload: {contains: HTTP}}, verdict: drop}\n",
    "regex": "  - {match: {payload: {regex: '(?i)user-agent: .{1,60}'}}, verdict: drop}\n",
    "bytes": "  - {match: {bytes: {base: transport, offset: 2, value: '00 35'}}, verdict: drop}\n",
    "options": "  - {match: {any: [{tcp.options: timestamp}, {ip.options: ra}, {ip6.exthdrs: hbh}]}, verdict: drop}\n",
    "inner": "  - {match: {any: [{inner.protocol: tcp}, {inner.inner.saddr: {not: '::1'}}]}, verdict: drop}\n",
    "checksum": "  - {match: {checksum: bad}, verdict: drop}\n",
    "limit": "  - {match: {protocol: udp}, limit: {rate: 1/day, burst: 3, per: [saddr, dport]}, verdict: drop}\n",
    "scapy": "  - {match: {scapy.DNSQR.qname: {contains: a}}, verdict: drop}\n",
    "scapy of everything": "  - {match: {scapy.Raw.load: {length: 0-64}}, verdict: drop}\n",
}
WITH_SCAPY = ("scapy", "scapy of everything")


def judge(policy: Policy, sent: list[Packet]) -> ReferenceEngine:
    """Every packet, at one moment, on the policy's first hook."""
    judged = ReferenceEngine(policy, Clock(monotonic=lambda: 0, wall=lambda: 0.0))
    hook = next(iter(policy.defaults))
    for packet in sent:
        judged.decide(replace(packet, hook=hook))
    return judged


@pytest.fixture(scope="module")
def corpus() -> list[Packet]:
    return list(packets())


LIBPCAP = {
    "{protocol: tcp, dport: 80}": (16, {"tcp-flags": 1}),
    "{family: ipv6}": (
        832,
        {
            "ipv6-jumbogram": 12,
            "udp-length": 4,
            "ipv6-routing-type-0": 4,
            "ipv6-extension-option": 3,
            "ipv6-payload-length": 3,
            "ipv6-header-short": 1,
        },
    ),
    "{family: ipv4, fragment: later}": (154, {"ipv4-fragment": 2, "ipv4-source-route": 1}),
    "{daddr: 10.0.0.0/8}": (782, {"ipv4-total-length": 7, "udp-length": 2, "tcp-flags": 1}),
    "{family: ipv6, protocol: tcp}": (8, {}),
    "{protocol: udp, sport: 53}": (34, {}),
    "{protocol: udp, dport: 53}": (55, {"ipv4-total-length": 2, "ipv6-payload-length": 1, "udp-length": 1}),
}
"""What the corpus' README says of a filter, and how many of these packets reach no rule here because they lie."""


@pytest.mark.parametrize(("match", "libpcap", "lies"), [(match, *counts) for match, counts in LIBPCAP.items()])
def test_libpcap(corpus: list[Packet], match: str, libpcap: int, lies: dict[str, int]) -> None:
    report = judge(loads(HEAD + f"rules:\n  - {{match: {match}, count: these}}\n"), corpus).report()
    assert report.counters["these"].packets + sum(lies.values()) == libpcap
    assert all(count <= report.malformed[code] for code, count in lies.items())


def test_what_ships_meets_no_error(corpus: list[Packet]) -> None:
    for path in sorted((ROOT / "rules").glob("*.yaml")):
        report = judge(load(str(path)), corpus).report()
        assert report.causes[Reason.ERROR].tally.packets == 0, path.name


def test_what_became_of_each_packet() -> None:
    # A module of scapy that some other test's policy named would change what scapy makes of a packet.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        text = fresh.submit(histogram).result()
    if os.environ.get("QFILTER_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="ascii")
    assert text == GOLDEN.read_text(encoding="ascii")


def histogram() -> str:
    """How many packets each policy decided for which reason, a line each."""
    lines, corpus = [], list(packets())
    for name, rules in POLICIES.items():
        report = judge(loads(f"{HEAD}rules:\n{rules}"), corpus).report()
        reasons = Counter({cause.value: each.tally.packets for cause, each in report.causes.items()})
        assert name in WITH_SCAPY or not reasons[Reason.ERROR]
        reasons["default"] = sum(each.tally.packets for each in report.defaults.values())
        reasons["rule"] = report.total.packets - reasons.total()
        said = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()) if count)
        lines.append(f"{name}: {said}\n")
    return "".join(lines)

"""All subjects under the three loads, one after the other, round after round: what drifts, drifts for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from benchmarks import policies, subjects
from benchmarks.arena import Arena, idle_share
from benchmarks.results import Results, Sample
from benchmarks.subjects import Subject

SCAPY_EVERY = 100
"""One packet of so many needs scapy, in the subjects that are about that."""

HEADER, FLAT = "{:,} header rules", "{:,} flat rules"
PAYLOAD = "100 literals, 20 regexes"
SCAPY, NO_SCAPY = "1% to a scapy rule", "1% to a native rule"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each load lasts, in seconds, and how many round trips."""

    flood: float = 3.0
    tcp: int = 4
    pings: int = 100_000
    most_of_pings: float = 5.0
    patience: float = 5.0
    """How long others who use the machine are waited for."""


QUICK = Effort(0.3, 1, 200, 0.5, patience=0.0)


def roster(*, quick: bool = False) -> list[Subject]:
    """Everybody who is compared, ten rules each when quick. Machines drift: what is compared is neighbours."""
    many = (10,) if quick else (1_000, 10_000)
    entries = 100 if quick else 100_000
    return [
        subjects.no_queue(),
        subjects.c_loop(),
        *(subjects.native(HEADER.format(n), policies.header(n, entries)) for n in many),
        *([] if quick else _unhurried()),
        subjects.c_loop(subjects.HEADERS),
        subjects.netfilterqueue(),
        *chain.from_iterable(_rule_by_rule(n) for n in many),
        *(subjects.reference(HEADER.format(n), policies.header(n, entries)) for n in sorted({10, many[0]})),
    ]


def _unhurried() -> list[Subject]:
    return [
        subjects.native(PAYLOAD, policies.payload()),
        subjects.rust_loop(),  # its compiler takes minutes
        subjects.native(SCAPY, policies.scapy(asked=True)),
        subjects.native(NO_SCAPY, policies.scapy(asked=False)),
    ]


def _rule_by_rule(rules: int) -> list[Subject]:
    native = subjects.native(FLAT.format(rules), policies.flat(rules))
    return [subjects.iptables(rules), subjects.nft(rules), native]


def measure(arena: Arena, subject: Subject, effort: Effort) -> Sample:
    """One subject, started for this and stopped again, under flood, stream and ping-pong."""
    with subject.place(arena) as pids:
        idle = idle_share(effort.patience)
        every = SCAPY_EVERY if subject.name.endswith((SCAPY, NO_SCAPY)) else 0
        flood = arena.flood(pids, effort.flood, others_every=every)
        stream = arena.tcp(effort.tcp)
        latency = arena.pingpong(pids, effort.pings, effort.most_of_pings)
    return {
        "kpps": flood.kpps,
        "ordinary_kpps": flood.ordinary_kpps,
        "sent": flood.sent,
        "delivered": flood.delivered,
        "cpu_ns": flood.cpu_ns,
        "resident_mib": flood.resident_mib,
        "peak_mib": flood.peak_mib,
        "tcp_gbit": stream,
        "p50_us": latency.p50,
        "p99_us": latency.p99,
        "idle_before": idle,
    }


def run(rounds: int, say: Callable[[str], None], *, quick: bool = False) -> Results:
    """The section `network` of the results."""
    present = roster(quick=quick)
    measured: list[dict[str, Sample]] = []
    with Arena() as arena:
        for number in range(1, rounds + 1):
            measured.append({})
            for subject in present:
                sample = measured[-1][subject.name] = measure(arena, subject, QUICK if quick else Effort())
                say(f"round {number} of {rounds}: {subject.name}: {_line(sample)}")
    return {"rounds": measured}


def _line(sample: Sample) -> str:
    return ", ".join(f"{figure} {value:,.2f}" for figure, value in sample.items() if value is not None)

"""The table of what is to be reached, row by row, and how each row is read out of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import network
from benchmarks.results import BASELINE, Results, middle, ratio

Reading = Callable[[Results], float | None]

_AT_LEAST, _AT_MOST = "at least", "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure of the table."""

    work: str
    figure: str
    bound: str
    value: float
    reading: Reading
    form: str = "{:.2f}"

    @property
    def goal(self) -> str:
        return f"{self.bound} {self.form.format(self.value)}"

    def reached(self, measured: float) -> bool:
        return measured >= self.value if self.bound == _AT_LEAST else measured <= self.value


def _native(label: str, rules: int = 0) -> str:
    return f"qfilter native, {label.format(rules)}"


def _by(subject: str, other: str, figure: str) -> Reading:
    return lambda results: ratio(results, subject, other, figure)


def _alone(section: str, figure: str) -> Reading:
    return lambda results: results.get(section, {}).get(figure)


def _replay(results: Results) -> float | None:
    alone = results.get("alone", {})
    ours, tcpdump = alone.get("replay_s native"), alone.get("tcpdump_s native")
    return ours / tcpdump if ours and tcpdump else None


def _scapy(results: Results) -> float | None:
    """The packets that need no scapy: their rate beside that of the same packets where the others need none either."""
    return ratio(results, _native(network.SCAPY), _native(network.NO_SCAPY), "ordinary_kpps")


def _headers(rules: int, rate: float, cpu: float) -> list[Target]:
    work = f"64-byte UDP, {rules:,} header rules, the last matches"
    subject = _native(network.HEADER, rules)
    return [
        Target(work, "rate by the C loop's", _AT_LEAST, rate, _by(subject, BASELINE, "kpps")),
        Target(work, "CPU a packet by the C loop's", _AT_MOST, cpu, _by(subject, BASELINE, "cpu_ns")),
    ]


def _kernel(rules: int, iptables: float, nft: float) -> list[Target]:
    work = f"{rules:,} rules against the kernel, rule by rule"
    subject = _native(network.FLAT, rules)
    return [
        Target(work, f"rate by {name}'s", _AT_LEAST, value, _by(subject, f"{name}, {rules:,} rules", "kpps"), "{:.1f}")
        for name, value in (("iptables", iptables), ("nft", nft))
    ]


_THOUSAND = _native(network.HEADER, 1_000)
_STREAM = "one TCP stream"
_PING = "UDP ping-pong, 1,000 header rules"
_SET = "address set of 1,000,000"

TARGETS = [
    *_headers(1_000, 0.95, 1.10),
    *_headers(10_000, 0.90, 1.15),
    *_kernel(1_000, 1.7, 4),
    *_kernel(10_000, 10, 40),
    Target(
        f"{_STREAM}, 1,000 header rules", "rate by the C loop's", _AT_LEAST, 0.97, _by(_THOUSAND, BASELINE, "tcp_gbit")
    ),
    Target(
        f"{_STREAM}, {network.PAYLOAD}",
        "rate by the C loop's",
        _AT_LEAST,
        0.60,
        _by(_native(network.PAYLOAD), BASELINE, "tcp_gbit"),
    ),
    Target(_PING, "p50 by the C loop's", _AT_MOST, 1.10, _by(_THOUSAND, BASELINE, "p50_us")),
    Target(_PING, "p99 by the C loop's", _AT_MOST, 1.25, _by(_THOUSAND, BASELINE, "p99_us")),
    *(
        Target(
            f"matcher alone, {rules:,} rules, {traffic}",
            "of the C loop's CPU a packet",
            _AT_MOST,
            share,
            _alone("alone", f"{figure} {rules}"),
            "{:.1%}",
        )
        for traffic, figure in (
            ("the flood's packets", "matcher_share"),
            ("every packet another", "matcher_changing_share"),
        )
        for rules, share in ((10, 0.04), (1_000, 0.07), (10_000, 0.10))
    ),
    Target(
        "matcher alone",
        "allocations, all packets together",
        _AT_MOST,
        0,
        _alone("alone", "matcher_allocations"),
        "{:.0f}",
    ),
    Target("compile 10,000 rules", "of loading them", _AT_MOST, 0.15, _alone("alone", "compile_share"), "{:.1%}"),
    Target(_SET, "memory, MiB", _AT_MOST, 64, _alone("alone", "set_mib native"), "{:.0f}"),
    Target(_SET, "time to load, s", _AT_MOST, 3, _alone("alone", "set_s native"), "{:.1f}"),
    Target(_SET, "p99 while it changes by p99 at rest", _AT_MOST, 1.10, _alone("changes", "live_set_p99 native")),
    Target(
        "20 reloads under full load",
        "packets lost or judged by a mix",
        _AT_MOST,
        0,
        _alone("changes", "reload_lost native"),
        "{:.0f}",
    ),
    Target(
        "`run` with 1,000 rules",
        "resident, MiB",
        _AT_MOST,
        80,
        lambda results: middle(results, _THOUSAND, "resident_mib"),
        "{:.0f}",
    ),
    Target("1% of packets need scapy", "rate of the others by what it is without", _AT_LEAST, 0.90, _scapy),
    Target("`replay` of 1,000,000 packets", "time by tcpdump -r's", _AT_MOST, 2, _replay, "{:.1f}"),
]

"""The rate over numbers of rules, set entries, queues and bytes: a flood at each point, the median of the rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

from benchmarks import policies, subjects
from benchmarks.arena import Arena
from benchmarks.results import Results
from benchmarks.subjects import Subject

RULES, ENTRIES, QUEUES, SIZES = "rules", "set entries", "queues", "packet bytes"
_FRAME = 46
"""Bytes of a frame that are not UDP payload: Ethernet with its checksum, IPv4, UDP."""
_LARGEST_MTU = 65_535
_SECONDS = 2.0

MOST_ROUNDS = 3
"""More would take longer than all else."""


@dataclass(frozen=True, slots=True)
class Point:
    """One flood of the table: chart, series, x."""

    chart: str
    series: str
    x: int
    subject: Subject
    size: int = 64

    def surroundings(self, arena: Arena) -> AbstractContextManager[None]:
        """Links that take the packets whole."""
        return arena.frames(_LARGEST_MTU) if self.chart == SIZES else nullcontext()


def points() -> list[Point]:
    """All points."""
    return [*_rules(), *_entries(), *_queues(), *_sizes()]


def run(rounds: int, say: Callable[[str], None], chosen: Iterable[Point] | None = None) -> Results:
    """The section `growth` of the results."""
    present = list(points() if chosen is None else chosen)
    rates: dict[Point, list[float]] = {point: [] for point in present}
    with Arena() as arena:
        for number in range(1, rounds + 1):
            for point in present:
                with point.surroundings(arena), point.subject.place(arena) as pids:
                    flood = arena.flood(pids, _SECONDS, size=point.size - _FRAME)
                rates[point].append(flood.kpps)
                say(f"round {number} of {rounds}: {point.x:,} {point.chart}: {point.series}: {flood.kpps:,.1f} kpps")
    results: Results = {}
    for point, measured in rates.items():
        results.setdefault(point.chart, {}).setdefault(point.series, {})[f"{point.x}"] = median(measured)
    return results


def _rules() -> Iterator[Point]:
    for x in (10, 100, 1_000, 10_000):
        yield Point(RULES, "C loop", x, subjects.c_loop())
        yield Point(RULES, "qfilter native", x, subjects.native("", policies.header(x)))
        yield Point(RULES, "iptables", x, subjects.iptables(x))
        yield Point(RULES, "nft", x, subjects.nft(x))
        if x <= 1_000:  # beyond that hardly a packet arrives
            yield Point(RULES, "qfilter reference", x, subjects.reference("", policies.header(x)))


def _entries() -> Iterator[Point]:
    for x in (1, 100, 10_000, 1_000_000):
        yield Point(ENTRIES, "C loop", x, subjects.c_loop())
        yield Point(ENTRIES, "qfilter native", x, subjects.native("", policies.header(1_000, x)))
        yield Point(ENTRIES, "qfilter reference, 10 rules", x, subjects.reference("", policies.header(10, x)))


def _queues() -> Iterator[Point]:
    for x in (1, 2, 3, 4):
        yield Point(QUEUES, "C loop", x, subjects.c_loop(queues=x))
        yield Point(QUEUES, "qfilter native", x, subjects.native("", policies.header(1_000, queues=x), queues=x))


def _sizes() -> Iterator[Point]:
    for x in (64, 512, 1_500, 9_000, 65_000):
        yield Point(SIZES, "no queue", x, subjects.no_queue(), x)
        yield Point(SIZES, "C loop, whole packets", x, subjects.c_loop(), x)
        yield Point(SIZES, "C loop, 128 bytes", x, subjects.c_loop(subjects.HEADERS), x)
        yield Point(SIZES, "qfilter native", x, subjects.native("", policies.header(1_000)), x)

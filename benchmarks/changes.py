"""A policy that changes while packets flow: reload under flood, elements of a set under ping-pong."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

from benchmarks import policies, subjects
from benchmarks.arena import Arena
from benchmarks.build import SCRATCH
from benchmarks.results import Results
from qfilter.control.client import ControlClient
from tests.lab.process import LabError

RELOADS = 20
ELEMENT = "203.0.113.9"
"""What is added and deleted; none of the arena's."""
_PAUSE = 0.02
_RULES = {"native": 1_000, "reference": 10}
"""Of the policies that are changed between: of more the reference engine judges too few packets to tell."""


def measure(rounds: int, say: Callable[[str], None], *, entries: int = 1_000_000) -> Results:
    """The section `changes` of the results."""
    results: Results = {}
    for which in ("native", "reference"):
        results[f"reload_lost {which}"] = reload_under_flood(which)
        say(f"reload_lost {which}: {results[f'reload_lost {which}']}")
        results[f"live_set_p99 {which}"] = live_set(which, rounds, entries)
        say(f"live_set_p99 {which}: {results[f'live_set_p99 {which}']:.3f}")
    return results


def reload_under_flood(which: str) -> int:
    """How many of the packets that were queued did not come out, over 20 reloads between two policies under full load.

    A packet that parts of both policies judge is dropped by either, see `policies.generation`: it counts. What the
    kernel could not queue, because the queue was full, has no number there and does not count; what it numbered but
    could not deliver to the socket it counts itself, and that is taken off. Both policies must have been seen in force.
    """
    generations = [policies.generation(number, _RULES[which]) for number in (1, 2)]
    policy = SCRATCH / "generations.yaml"
    shutil.copy(generations[0], policy)
    with Arena() as arena, subjects.engine(which, "", policy).place(arena) as pids, _marks(arena) as seen:

        def reload() -> None:
            client = _client(arena)
            for number in range(RELOADS):
                shutil.copy(generations[(number + 1) % 2], policy.with_suffix(".new"))
                policy.with_suffix(".new").replace(policy)
                client.reload()
            client.close()

        delivered = arena.flood(pids, 1.0, meanwhile=reload).delivered
        queue = arena.gateway.queues()[0]
        passed = seen()
    if not all(passed) or sum(passed) != delivered:
        raise LabError(f"{delivered} packets arrived, by policy: {passed}; expected some of each, and no others")
    return queue.last_id - queue.dropped_socket - delivered


def live_set(which: str, rounds: int, entries: int) -> float:
    """p99 of the ping-pong while elements come and go in a set of so many, by p99 while nothing changes."""
    ratios = []
    with Arena() as arena, subjects.engine(which, "", policies.live(entries)).place(arena) as pids:
        for _ in range(rounds):
            still = arena.pingpong(pids).p99
            with _changing(arena):
                ratios.append(arena.pingpong(pids).p99 / still)
    return median(ratios)


def _client(arena: Arena) -> ControlClient:
    """A connection to the service in the gateway."""
    with arena.gateway.entered():
        return ControlClient()


@contextmanager
def _changing(arena: Arena) -> Iterator[None]:
    """An element comes and goes, 50 changes a second: few enough that their own time is no hundredth of the whole."""
    over = threading.Event()

    def change() -> int:
        turns = 0
        with _client(arena) as client:
            while not over.wait(_PAUSE):
                client.add("blocklist", [ELEMENT])
                over.wait(_PAUSE)
                turns += client.delete("blocklist", [ELEMENT]).count
        return turns

    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(change)
        try:
            yield
        finally:
            over.set()
        if not changed.result():
            raise LabError("no element of the set was changed during a whole ping-pong")


@contextmanager
def _marks(arena: Arena) -> Iterator[Callable[[], list[int]]]:
    """Counts the packets that leave the gateway by their mark, 1 and 2."""
    table = ("iptables-legacy", "-t", "mangle")
    for number in (1, 2):
        arena.gateway.run(*table, "-A", "POSTROUTING", "-m", "mark", "--mark", f"{number}/0xf")

    def seen() -> list[int]:
        listed = arena.gateway.run(*table, "-nvxL", "POSTROUTING").stdout.splitlines()[2:]
        return [int(line.split()[0]) for line in listed]

    yield seen
    arena.gateway.run(*table, "-F", "POSTROUTING")

"""A policy that changes while packets flow: reload under flood, elements of a set under ping-pong."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks import policies, subjects
from benchmarks.arena import Arena
from benchmarks.build import SCRATCH
from benchmarks.results import Results
from benchmarks.subjects import Pids
from tests.lab.process import LabError, wait_until
from tests.lab.service import qfilter

RELOADS = 20
ELEMENT = "203.0.113.9"
"""What is added and deleted; none of the arena's."""


def measure(rounds: int, say: Callable[[str], None], *, entries: int = 1_000_000) -> Results:
    """The section `changes` of the results; what cannot be measured in this checkout has no key."""
    results: Results = {}
    for which in ("native", "reference"):
        if subjects.engine_missing(which):
            continue
        if subjects.has_command("reload"):
            results[f"reload_lost {which}"] = reload_under_flood(which)
            say(f"reload_lost {which}: {results[f'reload_lost {which}']}")
        if subjects.has_command("set", "add"):
            results[f"live_set_p99 {which}"] = live_set(which, rounds, entries)
            say(f"live_set_p99 {which}: {results[f'live_set_p99 {which}']:.3f}")
    return results


def reload_under_flood(which: str) -> int:
    """How many of the packets that were queued did not come out, over 20 reloads between two policies under full load.

    A packet that parts of both policies judge is dropped by either, see `policies.generation`: it counts. What the
    kernel could not queue, because the queue was full, has no number there and does not count; what it numbered but
    could not deliver to the socket it counts itself, and that is taken off. Both policies must have been seen in force.
    """
    policy = SCRATCH / "generations.yaml"
    shutil.copy(policies.generation(1), policy)
    with Arena() as arena, subjects.engine(which, "", policy).place(arena) as pids, _marks(arena) as seen:

        def reload() -> None:
            for number in range(RELOADS):
                following = policies.generation(2 - number % 2)
                shutil.copy(following, policy.with_suffix(".new"))
                policy.with_suffix(".new").replace(policy)
                arena.gateway.run(*qfilter("reload"), timeout=60.0)

        delivered = arena.flood(pids, 1.0, meanwhile=reload).delivered
        queue = arena.gateway.queues()[0]
        generations = seen()
    if not all(generations) or sum(generations) != delivered:
        raise LabError(f"{delivered} packets arrived, by policy: {generations}; expected some of each, and no others")
    return queue.last_id - queue.dropped_socket - delivered


def live_set(which: str, rounds: int, entries: int) -> float:
    """p99 of the ping-pong while elements come and go in a set of so many, by p99 while nothing changes."""
    ratios = []
    with Arena() as arena, subjects.engine(which, "", policies.live(entries)).place(arena) as pids:
        for _ in range(rounds):
            still = arena.pingpong(pids).p99
            with _changing(arena, pids):
                ratios.append(arena.pingpong(pids).p99 / still)
    return median(ratios)


@contextmanager
def _changing(arena: Arena, pids: Pids) -> Iterator[None]:
    """An element is added and deleted, over and over, from the CPU that the ping-pong does not use."""
    over, changes, failures = threading.Event(), [0], []
    command = ("taskset", "-c", "1", *qfilter("set"))

    def change() -> None:
        try:
            while not over.is_set():
                for verb in ("add", "delete"):
                    arena.gateway.run(*command, verb, "blocklist", ELEMENT)
                changes[0] += 1
        except LabError as error:
            failures.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        wait_until(lambda: bool(changes[0] or failures), "the set should have changed once", timeout=30.0)
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


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

"""Who decides the packets: each subject puts itself into the gateway for the length of a `with`.

A consumer binds its queue before packets are sent there, and is stopped after they no longer are.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import policies
from benchmarks.arena import Arena
from benchmarks.build import example, program
from tests.lab.process import wait_until
from tests.lab.service import serving

Pids = Sequence[int]
Place = Callable[[Arena], AbstractContextManager[Pids]]

WHOLE, HEADERS = 65_531, 128
"""Copy ranges: all that the kernel can copy, and what is enough for headers."""
_START = 300.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A name in the tables, and how it comes to decide."""

    name: str
    place: Place


def no_queue() -> Subject:
    """Plain forwarding."""

    @contextmanager
    def place(_arena: Arena) -> Iterator[Pids]:
        yield ()

    return Subject("no queue", place)


def c_loop(copy_range: int = WHOLE, queues: int = 1) -> Subject:
    """The accept-everything loop in C, one process for each queue."""
    name = f"C loop, copy {copy_range:,}"
    return Subject(
        name if queues == 1 else f"{name}, {queues} queues",
        lambda arena: _loops(
            arena, *([program("accept_loop"), f"{queue}", f"{copy_range}"] for queue in range(queues))
        ),
    )


def rust_loop(copy_range: int = WHOLE) -> Subject:
    """qfilter's own loop, an example of native/queue, that accepts everything: what is left is the engine."""
    name = f"qfilter's loop alone, copy {copy_range:,}"
    return Subject(name, lambda arena: _loops(arena, [example("qfilter-queue", "accept_all"), "0", f"{copy_range}"]))


def netfilterqueue() -> Subject:
    """The Python package NetfilterQueue, its callback accepting."""
    command = [sys.executable, "-m", "benchmarks.accept_netfilterqueue"]
    return Subject("NetfilterQueue, accept all", lambda arena: _loops(arena, command))


def iptables(rules: int) -> Subject:
    """The kernel itself, iptables-legacy, rule by rule."""
    text = policies.flat_iptables(rules)
    return Subject(
        f"iptables, {rules:,} rules", lambda arena: _kernel(arena, "iptables-legacy-restore", "--noflush", stdin=text)
    )


def nft(rules: int) -> Subject:
    """The kernel itself, nftables, rule by rule."""
    text = policies.flat_nft(rules)
    return Subject(f"nft, {rules:,} rules", lambda arena: _kernel(arena, "nft", "-f", "-", stdin=text))


def engine(which: str, label: str, policy: Path, queues: int = 1) -> Subject:
    """`qfilter run` with the engine `native` or `reference`."""

    @contextmanager
    def place(arena: Arena) -> Iterator[Pids]:
        options = ["--no-install", "--format", "none", "--engine", which]
        with serving(arena.gateway, policy, *options, timeout=_START) as service, arena.queued(queues):
            yield [service.pid]

    return Subject(f"qfilter {which}, {label}", place)


native = functools.partial(engine, "native")
reference = functools.partial(engine, "reference")


@contextmanager
def _loops(arena: Arena, *commands: Sequence[str]) -> Iterator[Pids]:
    """Commands that bind queues 0, 1 and so on, each as soon as it can."""
    with ExitStack() as stack:
        loops = [stack.enter_context(arena.gateway.start(*command)) for command in commands]
        wait_until(lambda: len(arena.gateway.queues()) == len(loops), "every queue should be bound")
        with arena.queued(len(loops)):
            yield [loop.pid for loop in loops]


@contextmanager
def _kernel(arena: Arena, *command: str, stdin: str) -> Iterator[Pids]:
    with arena.ruled(*command, stdin=stdin):
        yield ()

"""The public face in Python: load a policy, ask it, put it in force."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from qfilter.daemon import Service, prepare
from qfilter.engine.clock import Clock
from qfilter.engine.explain import Explanation, explain
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import TestOutcome, run_tests
from qfilter.events.outputs import Outputs
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy as PolicyModel
from qfilter.model.report import Report
from qfilter.model.verdict import Verdict
from qfilter.policy.load import load as load_model
from qfilter.policy.load import loads as loads_model

_LAST_QUEUE = 65_535


class Policy:
    """A loaded policy that can judge packets. Its sets, limits and counts live as long as it does.

    Not safe to share between threads.
    """

    def __init__(self, model: PolicyModel, clock: Clock | None = None) -> None:
        self.model = model
        self._clock = clock
        self._engine = ReferenceEngine(model, clock)

    def evaluate(self, packet: Packet) -> Verdict:
        """The verdict of a packet, and why. Never raises: what goes wrong has the outcome of a failure cause."""
        return self._engine.decide(packet)

    def explain(self, packet: Packet) -> Explanation:
        """The verdict, every rule that was looked at, and the conditions that failed."""
        return explain(self._engine, packet)

    def test(self) -> TestOutcome:
        """Run the tests inside the policy, each with the policy fresh in force."""
        return run_tests(self.model, clock=self._clock)

    def report(self) -> Report:
        """What `evaluate` and `explain` have counted."""
        return self._engine.report()


def load(path: str | os.PathLike[str]) -> Policy:
    """Read a policy and everything it includes. Raises PolicyError with every mistake of every file."""
    return Policy(load_model(os.fspath(path)))


def loads(text: str, name: str = "<policy>") -> Policy:
    """A policy from text; what it includes is looked for in the current folder. Raises PolicyError."""
    return Policy(loads_model(text, name))


def serve(
    policy: Policy, *, queues: Sequence[int] | None = None, install: bool = False, outputs: Outputs | None = None
) -> Service:
    """A service for a `with` block: while that lasts, the policy is in force and packets are judged in a thread.

    `queues` are adjacent numbers that override the policy's. With `install` the kernel rules are installed after
    binding and removed before the queues are let go; without it packets must be queued by rules of your own.
    `outputs` takes events and captured packets, and stays the caller's to close. Raises PolicyError, also when a test
    of the policy fails, PrivilegeError and UnsupportedError; entering the block raises QueueError and FirewallError
    too, and then nothing is left behind.
    """
    model = policy.model if queues is None else _on_queues(policy.model, queues)
    return Service(prepare(model, install=install), outputs)


def _on_queues(model: PolicyModel, queues: Sequence[int]) -> PolicyModel:
    first, last = min(queues, default=0), max(queues, default=-1)
    if not 0 <= first <= last <= _LAST_QUEUE or sorted(queues) != list(range(first, last + 1)):
        raise ValueError(f"queues {list(queues)}: expected adjacent numbers of 0 to {_LAST_QUEUE}")
    return replace(model, queue=replace(model.queue, first=first, last=last))

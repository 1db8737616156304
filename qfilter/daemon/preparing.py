"""Before anything is in force: what this machine can do, the policy's own tests, its plan, and an engine."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from qfilter import firewall
from qfilter.compiler import compile_policy, encode, portable_plan
from qfilter.engine.base import Engine
from qfilter.engine.clock import Clock
from qfilter.engine.native import NativeEngine
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import run_tests
from qfilter.errors import PolicyError, UnsupportedError
from qfilter.model.plan import Capabilities, Plan
from qfilter.model.policy import Backend, Policy, Target
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.nfnetlink import ConfigFlag
from qfilter.queues import ip_queue


class EngineName(StrEnum):
    """What `--engine` takes."""

    NATIVE = "native"
    REFERENCE = "reference"


def engine_maker(name: EngineName, policy: Policy) -> Callable[[Clock | None], Engine]:
    """Makes engines of a policy, each with sets, limits, flows and counts of its own; the policy is compiled once."""
    if name is EngineName.REFERENCE:
        return partial(ReferenceEngine, policy)
    return NativeEngine(policy, encode(portable_plan(policy))).fresh


def capabilities(policy: Policy, *, install: bool = True) -> Capabilities:
    """What this machine can do. Raises PrivilegeError, and UnsupportedError on a kernel without any packet queue."""
    backends, problems = firewall.probe() if install else ({}, {})
    try:
        flags = queue_flags()
    except UnsupportedError:
        if policy.queue.target is not Target.QUEUE:
            raise
        return Capabilities(
            backends=backends, problems=problems, fail_open=False, unreadable=ip_queue.UNREADABLE, ip_queue=True
        )
    return Capabilities(
        backends=backends,
        problems=problems,
        fail_open=ConfigFlag.FAIL_OPEN in flags,
        unreadable=frozenset() if ConfigFlag.UID_GID in flags else frozenset({"uid", "gid"}),
    )


def prepare(
    policy: Policy,
    *,
    install: bool = True,
    backend: Backend | None = None,
    engine: EngineName = EngineName.NATIVE,
) -> Plan:
    """The plan of a policy for this machine. Raises PolicyError also when one of the policy's own tests fails."""
    failures = run_tests(policy, make=engine_maker(engine, policy)).failures
    if failures:
        raise PolicyError([failure.diagnostic() for failure in failures])
    return compile_policy(policy, capabilities(policy, install=install), install=install, backend=backend)

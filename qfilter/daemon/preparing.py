"""Before anything is in force: what this machine can do, the policy's own tests, its plan, and an engine.

The reference engine and the tests are loaded for who wants them: they bring scapy, which is 26 MiB and half a second.
"""

# ruff: noqa: PLC0415 - modules are imported inside functions

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial

from qfilter import firewall
from qfilter.compiler import compile_policy, encode, needs_conntrack, portable_plan
from qfilter.engine.base import Engine
from qfilter.engine.clock import Clock
from qfilter.engine.native import NativeEngine
from qfilter.errors import PolicyError, UnsupportedError
from qfilter.fields import CONNTRACK
from qfilter.model.plan import Capabilities, Place, Plan
from qfilter.model.policy import Backend, Policy, Target
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.nfnetlink import ALL_FLAGS, ConfigFlag
from qfilter.queues import ip_queue

_GIVEN_BY = {ConfigFlag.UID_GID: frozenset({"uid", "gid"}), ConfigFlag.CONNTRACK: CONNTRACK}
"""Fields that a packet has only when its queue has a flag."""


class EngineName(StrEnum):
    """What `--engine` takes."""

    NATIVE = "native"
    REFERENCE = "reference"


def engine_maker(name: EngineName, policy: Policy) -> Callable[[Clock | None], Engine]:
    """Makes engines of a policy, each with sets, limits, flows and counts of its own; the policy is compiled once."""
    if name is EngineName.REFERENCE:
        from qfilter.engine.reference import ReferenceEngine

        return partial(ReferenceEngine, policy)
    plan = portable_plan(policy)
    made = NativeEngine(policy, encode(plan))
    if Place.PYTHON in plan.places.values():
        made.ready()
    return made.fresh


def capabilities(policy: Policy, *, install: bool = True) -> Capabilities:
    """What this machine can do. Raises PrivilegeError, and UnsupportedError on a kernel without any packet queue."""
    backends, problems = firewall.probe() if install else ({}, {})
    asked = ALL_FLAGS if needs_conntrack(policy) else ALL_FLAGS & ~ConfigFlag.CONNTRACK
    try:
        flags = queue_flags(asked)
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
        unreadable=frozenset(name for flag in asked & ~flags for name in _GIVEN_BY.get(flag, ())),
    )


def prepare(
    policy: Policy,
    *,
    install: bool = True,
    backend: Backend | None = None,
    engine: EngineName = EngineName.NATIVE,
) -> Plan:
    """The plan of a policy for this machine. Raises PolicyError also when one of the policy's own tests fails."""
    if policy.tests:
        _test(policy, engine_maker(engine, policy))
    return compile_policy(policy, capabilities(policy, install=install), install=install, backend=backend)


def _test(policy: Policy, make: Callable[[Clock | None], Engine]) -> None:
    from qfilter.engine.selftest import run_tests

    failures = run_tests(policy, make=make).failures
    if failures:
        raise PolicyError([failure.diagnostic() for failure in failures])

"""The plan of a policy on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qfilter.compiler import places, walk
from qfilter.compiler.limits import check
from qfilter.compiler.reads import copy_range, needs_conntrack
from qfilter.errors import PolicyError, UnsupportedError
from qfilter.model.hook import Hook
from qfilter.model.plan import Capabilities, KernelRules, Place, Plan
from qfilter.model.policy import Backend, Policy
from qfilter.model.verdict import Kind, Reason, RejectWith


def compile_policy(
    policy: Policy, capabilities: Capabilities, *, install: bool = True, backend: Backend | None = None
) -> Plan:
    """What must stand in the kernel and what the engine must do, for one policy on one machine.

    `install=False` is for kernel rules of the operator's own and for replay: the plan then has no kernel rules and no
    backend is asked for. `backend` overrides the policy's. Raises PolicyError, with every rule and setting at once,
    for what this machine or the kernel cannot do, and UnsupportedError when no tool can install the kernel rules.
    """
    problems = check(policy, capabilities)
    if problems:
        raise PolicyError(problems)
    kernel = _kernel_rules(policy, capabilities, backend) if install else None
    return replace(portable_plan(policy), kernel=kernel, ip_queue=capabilities.ip_queue)


def portable_plan(policy: Policy) -> Plan:
    """What an engine must do where there is no kernel: for replay, and for the tests inside a policy."""
    return Plan(
        policy=policy,
        kernel=None,
        mark_mask=policy.queue.mark_mask if _rejects(policy) else 0,
        copy_range=copy_range(policy),
        fail_open=policy.on_failure.get(Reason.QUEUE_FULL) is Kind.ACCEPT,
        conntrack=needs_conntrack(policy),
        places=_places(policy),
    )


def _kernel_rules(policy: Policy, capabilities: Capabilities, backend: Backend | None) -> KernelRules:
    queue = policy.queue
    rejects = _rejects(policy)
    return KernelRules(
        backend=_backend(policy, capabilities, backend or queue.backend),
        target=queue.target,
        hooks=tuple(hook for hook in Hook if hook in policy.defaults),
        first=queue.first,
        last=queue.last,
        bypass=policy.on_failure.get(Reason.NO_LISTENER) is Kind.ACCEPT,
        cpu_fanout=queue.cpu_fanout,
        exempt=queue.exempt,
        mark_mask=queue.mark_mask if rejects else 0,
        rejects=rejects,
    )


def _backend(policy: Policy, capabilities: Capabilities, asked: Backend) -> Backend:
    target = policy.queue.target
    candidates = tuple(capabilities.backends) if asked is Backend.AUTO else (asked,)
    for backend in candidates:
        if target in capabilities.backends.get(backend, ()):
            return backend
    reasons = []
    for backend in (each for each in Backend if each is not Backend.AUTO and asked in (Backend.AUTO, each)):
        unable = f"cannot install target {target.value!r} here" if backend in capabilities.backends else "not probed"
        reasons.append(f"{backend}: {capabilities.problems.get(backend, unable)}")
    raise UnsupportedError(f"no tool can install kernel rules with target {target.value!r}: {'; '.join(reasons)}")


def _rejects(policy: Policy) -> tuple[RejectWith, ...]:
    """The answers of every decision that a packet can get, in the order of RejectWith."""
    decisions = [default.decision for default in policy.defaults.values()]
    decisions += [rule.verdict for rule, hooks in walk.rules(policy) if hooks and rule.verdict is not None]
    used = {decision.reject for decision in decisions}
    return tuple(answer for answer in RejectWith if answer in used)


def _places(policy: Policy) -> Mapping[str, Place]:
    """NATIVE is what native code may decide, and PYTHON what it never can; the reference engine decides both."""
    return {rule.id: places.place(rule) for rule, _ in walk.rules(policy)}

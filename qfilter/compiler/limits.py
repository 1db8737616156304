"""What neither this machine nor any kernel can do, said at the rule or setting that asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qfilter.compiler import walk
from qfilter.compiler.reads import fields
from qfilter.errors import Diagnostic, Position
from qfilter.fields import CONNTRACK
from qfilter.model.hook import Hook
from qfilter.model.plan import Capabilities
from qfilter.model.policy import Policy, Target
from qfilter.model.rule import FieldTest, PythonTest, Rule, SetMark
from qfilter.model.verdict import Decision, Kind, Reason

KINDS: Mapping[str, str] = {
    "reject-hook": "a reject where the kernel has none: REJECT exists in input, forward and output only",
    "own-queue": "a verdict that sends a packet back to qfilter itself, where it gets the same verdict for ever",
    "queue-target": "a setting of the queue that `target: queue` does not have",
    "unsupported": "something that this kernel or this build cannot do",
}
"""Every kind of mistake that only the compiler finds, beside those of `qfilter.policy.kinds`."""

REJECTING = (Hook.INPUT, Hook.FORWARD, Hook.OUTPUT)
"""Hooks where the kernel's REJECT works (net/netfilter/ipt_REJECT.c registers for these)."""


def check(policy: Policy, capabilities: Capabilities) -> tuple[Diagnostic, ...]:
    """Every mistake, in the order of rules, defaults, settings."""
    found: list[Diagnostic] = []
    for rule, hooks in walk.rules(policy):
        found += _rule(rule, hooks, capabilities)
        found += _own_queue(rule, policy)
    for hook, default in policy.defaults.items():
        found += _decision(default.decision, (hook,), default.at, capabilities)
    found += _target(policy)
    if policy.on_failure.get(Reason.QUEUE_FULL) is Kind.ACCEPT and not capabilities.fail_open:
        said = "queue_full accept: this queue's consumer cannot set fail-open, expected drop"
        found.append(_mistake("unsupported", _at(policy, "on_failure.queue_full"), said))
    return tuple(found)


def _rule(rule: Rule, hooks: tuple[Hook, ...], capabilities: Capabilities) -> Iterator[Diagnostic]:
    if capabilities.unreadable:
        yield from _unread(rule, capabilities)
    if capabilities.ip_queue and any(isinstance(action, SetMark) for action in rule.actions):
        yield _mistake("unsupported", rule.at, "mark: ip_queue's verdicts carry no mark, use target nfqueue")
    if rule.verdict is not None:
        yield from _decision(rule.verdict, hooks, rule.at, capabilities)


def _unread(rule: Rule, capabilities: Capabilities) -> Iterator[Diagnostic]:
    for test in walk.tests(rule.match):
        for name in _tested(test):
            if name in capabilities.unreadable:
                yield _unreadable(name, test.at, capabilities)
    for name in fields(rule):
        if name in capabilities.unreadable:
            yield _unreadable(name, rule.at, capabilities)


def _tested(test: walk.Test) -> tuple[str, ...]:
    if isinstance(test, FieldTest):
        return (test.field,)
    if isinstance(test, PythonTest):
        return test.predicate.needs
    return ()


def _decision(
    decision: Decision, hooks: tuple[Hook, ...], at: Position, capabilities: Capabilities
) -> Iterator[Diagnostic]:
    if capabilities.ip_queue and decision.kind in (Kind.REJECT, Kind.QUEUE):
        lacks = "mark" if decision.kind is Kind.REJECT else "queue number"
        yield _mistake("unsupported", at, f"{decision}: ip_queue's verdicts carry no {lacks}, use target nfqueue")
    wrong = [hook.value for hook in hooks if hook not in REJECTING]
    if decision.kind is Kind.REJECT and wrong:
        said = (
            f"{decision} at {' and '.join(wrong)}: the kernel rejects only at input, forward and output, expected drop"
        )
        yield _mistake("reject-hook", at, f"{said} or a hook of these")


def _own_queue(rule: Rule, policy: Policy) -> Iterator[Diagnostic]:
    number = None if rule.verdict is None else rule.verdict.queue
    if number is not None and policy.queue.first <= number <= policy.queue.last:
        said = f"{rule.verdict}: this policy's own queue, expected another, or another queue.number"
        yield _mistake("own-queue", rule.at, said)


def _target(policy: Policy) -> Iterator[Diagnostic]:
    """`-j QUEUE` has no arguments: it is queue 0, and drops when nobody listens."""
    queue = policy.queue
    if queue.target is not Target.QUEUE:
        return
    asked = {
        "queue.number": (
            (queue.first, queue.last) != (0, 0),
            f"queues {queue.first} to {queue.last}: target queue is always queue 0",
        ),
        "queue.cpu_fanout": (queue.cpu_fanout, "cpu_fanout: target queue has one queue"),
        "on_failure.no_listener": (
            policy.on_failure.get(Reason.NO_LISTENER) is Kind.ACCEPT,
            "no_listener accept: target queue cannot be bypassed",
        ),
    }
    for setting, (wrong, said) in asked.items():
        if wrong:
            yield _mistake("queue-target", _at(policy, setting), f"{said}, use target nfqueue")


def _at(policy: Policy, setting: str) -> Position:
    return policy.settings.get(setting, Position(policy.path, 1, 1))


def _unreadable(name: str, at: Position, capabilities: Capabilities) -> Diagnostic:
    said = f"field {name!r}: no packet from this queue carries it"
    if name in CONNTRACK and not capabilities.ip_queue:
        said += ", which takes a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT"
    return _mistake("unsupported", at, said)


def _mistake(kind: str, at: Position, message: str) -> Diagnostic:
    return Diagnostic(kind=kind, at=at, message=message)

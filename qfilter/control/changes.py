"""From one plan to the next while packets flow: what that changes, what it cannot change, and by which step. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from qfilter.compiler.walk import rules
from qfilter.control.heritage import placeless
from qfilter.errors import Diagnostic, Position
from qfilter.model.plan import KernelRules, Plan
from qfilter.model.policy import HookDefault, Policy, QueueSettings
from qfilter.model.rule import Rule
from qfilter.model.verdict import RejectWith

_Key = TypeVar("_Key", bound=str)
_Value = TypeVar("_Value")

_MOST = 50
"""Lines of changes; of more their number is told."""


def needs_restart(old: Plan, new: Plan) -> tuple[Diagnostic, ...]:
    """What only another start can bring about: a mistake for each, where the new policy says so."""
    if old.kernel and new.kernel and not set(old.kernel.hooks) & set(new.kernel.hooks):
        here, there = (", ".join(plan.policy.defaults) for plan in (old, new))
        at = next(iter(new.policy.defaults.values())).at
        message = f"hooks {there}: the service runs with {here}, expected one of them or a restart"
        return (Diagnostic(kind="restart", at=at, message=message),)
    before, after = old.policy.queue, new.policy.queue
    held: dict[str, tuple[object, object]] = {
        "queue.number": (_numbers(before), _numbers(after)),
        "queue.target": (before.target.value, after.target.value),
        "queue.backend": (before.backend.value, after.backend.value),
    }
    if old.ip_queue:
        held["queue.copy_range"] = (f"{old.copy_range}", f"{new.copy_range}")
    if old.mark_mask and new.mark_mask:  # packets are on their way with the old bits
        held["queue.mark_mask"] = (f"{old.mark_mask:#x}", f"{new.mark_mask:#x}")
    return tuple(
        Diagnostic(
            kind="restart",
            at=new.policy.settings.get(setting, Position(new.policy.path, 1, 1)),
            message=f"{setting} {there}: the service runs with {here}, expected the same or a restart",
        )
        for setting, (here, there) in held.items()
        if here != there
    )


def first_step(old: KernelRules, new: KernelRules) -> KernelRules:
    """The kernel rules between two policies: right for both.

    A hook that goes is fed no longer, one that comes is not fed yet, and the answers to both policies' rejects are
    there. What waits is then decided by the old policy, and all that comes later by the new one.
    """
    answers = {*old.rejects, *new.rejects}
    return replace(
        new,
        hooks=tuple(hook for hook in new.hooks if hook in old.hooks),
        mark_mask=new.mark_mask or old.mark_mask,
        rejects=tuple(answer for answer in RejectWith if answer in answers),
    )


def between(old: Plan, new: Plan) -> Plan:
    """What is asked of the queues between two policies: packets that it copies may be judged by either."""
    before, after = old.policy.queue, new.policy.queue
    buffers = (before.socket_buffer, after.socket_buffer)
    settings = replace(
        after,
        length=max(before.length, after.length),
        socket_buffer=None if None in buffers else max(filter(None, buffers)),
        # Of who waits; for the new policy nobody does so far.
        deadline=before.deadline,
    )
    return replace(
        new,
        policy=replace(new.policy, queue=settings),
        copy_range=max(old.copy_range, new.copy_range),
        conntrack=old.conntrack or new.conntrack,
        # What finds the queue full meets no policy at all, so both must let it through.
        fail_open=old.fail_open and new.fail_open,
    )


def changes(old: Policy, new: Policy) -> tuple[str, ...]:
    """What another policy means otherwise, a line each. Where things stand in their files does not matter."""
    lines = [*_settings(old, new), *_sets(old, new), *_rules(old, new)]
    more = len(lines) - _MOST
    return tuple(lines) if more <= 0 else (*lines[:_MOST], f"and {more:,} more")


def _settings(old: Policy, new: Policy) -> Iterator[str]:
    if old.path != new.path:
        yield f"file {new.path}, was {old.path}"
    gone = [hook for hook in old.defaults if hook not in new.defaults]
    yield from (f"{hook}: no longer filtered, default was {_default(old.defaults[hook])}" for hook in gone)
    kept = {hook: default for hook, default in old.defaults.items() if hook not in gone}
    yield from _told("default", kept, new.defaults, _default)
    yield from _told("on_failure", old.on_failure, new.on_failure, str)
    if old.allow != new.allow:
        yield f"allow {_listed(new.allow)}, was {_listed(old.allow)}"
    for field in fields(QueueSettings):
        here, there = getattr(old.queue, field.name), getattr(new.queue, field.name)
        if here != there:
            yield f"queue.{field.name} {_shown(there)}, was {_shown(here)}"


def _told(
    what: str, old: Mapping[_Key, _Value], new: Mapping[_Key, _Value], show: Callable[[_Value], str]
) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        here, there = (show(each[name]) if name in each else "nothing" for each in (old, new))
        if here != there:
            yield f"{what} {name} {there}, was {here}"


def _sets(old: Policy, new: Policy) -> Iterator[str]:
    before, after = old.sets, new.sets
    alike = {name for name in before.keys() & after.keys() if replace(after[name], at=before[name].at) == before[name]}
    yield from _named("set", before, after, alike)


def _rules(old: Policy, new: Policy) -> Iterator[str]:
    before, after = ({rule.id: rule for rule, _ in rules(policy)} for policy in (old, new))
    alike = {name for name in before.keys() & after.keys() if _same(before[name], after[name])}
    yield from _named("rule", before, after, alike)
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield "rules stand in another order"


def _same(one: Rule, other: Rule) -> bool:
    return placeless(one) == placeless(other) and _inside(one) == _inside(other)


def _inside(rule: Rule) -> tuple[str, ...]:
    return tuple(inner.id for inner in rule.rules)


def _named(what: str, old: Mapping[str, object], new: Mapping[str, object], alike: set[str]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        if name not in alike:
            yield f"{what} {name} {'added' if name not in old else 'removed' if name not in new else 'changed'}"


def _numbers(queue: QueueSettings) -> str:
    return f"{queue.first}" if queue.first == queue.last else f"{queue.first}-{queue.last}"


def _default(default: HookDefault) -> str:
    return str(default.decision)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "nothing"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return _listed(value)
    return "nothing" if value is None else str(value)

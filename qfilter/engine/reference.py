"""The reference engine: what a policy means, in plain Python. Slow, readable, the specification.

A packet whose headers lie is decided before any rule. Then the rules are looked at in file order; the first one that
matches and has a verdict wins, the first one that cannot be decided ends the evaluation with its cause's outcome, and
when all are through the hook's default decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from qfilter.engine.clock import Clock
from qfilter.engine.conditions import View
from qfilter.engine.decode import decode
from qfilter.engine.flows import Flows
from qfilter.engine.foreign import attempt
from qfilter.engine.limits import Buckets
from qfilter.engine.matching import Truth
from qfilter.engine.sets import Digest, Element, LiveSet
from qfilter.engine.summary import SUMMARY, summary
from qfilter.engine.tallies import Tallies, all_rules
from qfilter.engine.value import ABSENT, Absent, Known, Unknown, exact
from qfilter.errors import Position
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.report import Report
from qfilter.model.rule import Action, Capture, Count, Limit, Log, Rule, Scope, SetMark, SetOperation, UpdateSet
from qfilter.model.verdict import Captured, Decision, Logged, Reason, Verdict

Trace = Callable[[Rule, Truth, View], None]
"""Told of each rule that was looked at, before its actions are done; `explain` listens."""


class _Evaluation:
    """What one packet's way through the rules has brought about so far."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.arrived_with = view.decoded.packet.mark
        self.effects: list[Logged | Captured] = []

    @property
    def packet(self) -> Packet:
        return self.view.decoded.packet

    def set_mark(self, value: int, mask: int) -> None:
        mark = (self.packet.mark & ~mask) | value
        self.view.decoded = replace(self.view.decoded, packet=replace(self.packet, mark=mark))

    def verdict(self, decision: Decision, reason: Reason, rule: Rule | None = None, detail: str = "") -> Verdict:
        mark = None if self.packet.mark == self.arrived_with else self.packet.mark
        return Verdict(
            decision,
            reason,
            rule=rule.id if rule else None,
            at=rule.at if rule else None,
            detail=detail,
            mark=mark,
            effects=tuple(self.effects),
        )


class ReferenceEngine:
    """One policy in force, with its live sets, limits, flows and counts. Not safe to share between threads."""

    name = "reference"

    def __init__(self, policy: Policy, clock: Clock | None = None) -> None:
        self.policy = policy
        self._clock = clock or Clock()
        self._sets = {name: LiveSet(definition) for name, definition in policy.sets.items()}
        limited = (rule for rule in all_rules(policy.rules) if rule.limit)
        self._buckets = {rule.id: Buckets(rule.limit) for rule in limited if rule.limit}
        self._flows = Flows()
        self._tallies = Tallies(policy)

    def inherit(self, former: ReferenceEngine, flows: Mapping[str, Position]) -> None:
        """Take over what `former` knows by name, see `engine.base.Engine`."""
        for name in self._sets.keys() & former._sets.keys():
            self._sets[name].inherit(former._sets[name])
        theirs = former._buckets
        self._buckets |= {
            rule: theirs[rule]
            for rule, buckets in self._buckets.items()
            if rule in theirs and theirs[rule].limit == buckets.limit
        }
        self._flows.inherit(former._flows, flows)
        self._tallies.inherit(former._tallies)

    def decide(self, packet: Packet, trace: Trace | None = None) -> Verdict:
        """The verdict of a packet. Never raises: what goes wrong on the way has the outcome of the cause `error`."""
        verdict = attempt(lambda: self._decide(packet, trace))
        if isinstance(verdict, Unknown):
            verdict = self._failure(None, verdict.reason, None, verdict.detail)
        self._tallies.add_verdict(verdict, packet.hook, packet.wire_length)
        return verdict

    def view(self, packet: Packet) -> View:
        """A packet as the rules see it when they begin."""
        return self._view(packet, self._clock.monotonic())

    def summary(self, packet: Packet) -> Mapping[str, int | IPv4Address | IPv6Address]:
        """A packet in five fields, for events."""
        return summary(map(self.view(packet).read, SUMMARY))

    def report(self) -> Report:
        """What has been counted, since the first engine that this one inherited from."""
        now = self._clock.monotonic()
        return self._tallies.report({name: live.tally(now) for name, live in self._sets.items() if live.dynamic})

    def elements(self, name: str) -> Sequence[tuple[Element | Digest, float | None]]:
        """What was added to a dynamic set, with the seconds that are left."""
        return self._dynamic(name).elements(self._clock.monotonic())

    def add(self, name: str, element: Element, timeout: float | None) -> bool:
        """Add an element to a dynamic set; False when it is full."""
        return self._dynamic(name).add(element, timeout, self._clock.monotonic())

    def delete(self, name: str, element: Element) -> bool:
        """Take out an element that was added; False when it is not there."""
        return self._dynamic(name).delete(element, self._clock.monotonic())

    def flush(self, name: str) -> int:
        """Take out all that was added; how many elements that were."""
        return self._dynamic(name).flush(self._clock.monotonic())

    def _dynamic(self, name: str) -> LiveSet:
        live = self._sets[name]
        if not live.dynamic:
            raise KeyError(name)
        return live

    def _decide(self, packet: Packet, trace: Trace | None) -> Verdict:
        default = self.policy.defaults.get(packet.hook)
        if default is None:
            raise LookupError(f"hook {packet.hook}: the policy has no default for it")
        now = self._clock.monotonic()
        evaluation = _Evaluation(self._view(packet, now))
        malformed = evaluation.view.decoded.malformed
        if malformed:
            return self._failure(evaluation, Reason.MALFORMED, None, malformed)
        remembered = self._flows.recall(packet.hook, evaluation.view.read, now)
        if remembered:
            self._tallies.add("rule", remembered.rule or "", packet.wire_length)
            return remembered
        verdict = self._walk(self.policy.rules, evaluation, now, trace)
        return verdict or replace(evaluation.verdict(default.decision, Reason.DEFAULT), at=default.at)

    def _walk(self, rules: Iterable[Rule], evaluation: _Evaluation, now: int, trace: Trace | None) -> Verdict | None:
        """The verdict of the first of these rules that has one for the packet; None when all are through."""
        for rule in rules:
            if rule.hooks and evaluation.packet.hook not in rule.hooks:
                continue
            truth = attempt(partial(self._look_at, rule, evaluation, now, trace))
            if isinstance(truth, Unknown):
                return self._failure(evaluation, truth.reason, rule, truth.detail)
            if not truth:
                continue
            if rule.verdict:
                return self._final(rule, rule.verdict, evaluation, now)
            inner = self._walk(rule.rules, evaluation, now, trace)
            if inner:
                return inner
        return None

    def _look_at(self, rule: Rule, evaluation: _Evaluation, now: int, trace: Trace | None) -> Truth:
        truth = self._matches(rule, evaluation.view, now)
        if trace:
            trace(rule, truth, evaluation.view)
        return self._act(rule, evaluation, now) if truth is True else truth

    def _matches(self, rule: Rule, view: View, now: int) -> Truth:
        truth = view.holds(rule.match)
        return self._passes(rule.id, rule.limit, view, now) if truth is True and rule.limit else truth

    def _passes(self, rule: str, limit: Limit, view: View, now: int) -> Truth:
        key: list[Known] = []
        for field in limit.per:
            value = exact(view.read(field))
            if value is ABSENT:
                return False
            if isinstance(value, Unknown):
                return value
            key.append(value)
        return self._buckets[rule].take(tuple(key), now) is not limit.over

    def _act(self, rule: Rule, evaluation: _Evaluation, now: int) -> Truth:
        """Do a matching rule's actions, or none of them when one needs a value that is unknown."""
        for action in rule.actions:
            value = evaluation.view.read(action.element) if isinstance(action, UpdateSet) else ABSENT
            if isinstance(needed := exact(value), Unknown):
                return needed
        self._tallies.add("rule", rule.id, evaluation.packet.wire_length)
        for action in rule.actions:
            self._do(action, rule, evaluation, now)
        return True

    def _do(self, action: Action, rule: Rule, evaluation: _Evaluation, now: int) -> None:
        match action:
            case Log(prefix):
                evaluation.effects.append(Logged(rule.id, rule.at, prefix))
            case Capture(file, limit):
                evaluation.effects.append(Captured(rule.id, file, limit))
            case Count(name):
                self._tallies.add("counter", name, evaluation.packet.wire_length)
            case SetMark(value, mask):
                evaluation.set_mark(value, mask)
            case UpdateSet():
                self._update(action, evaluation.view, now)

    def _update(self, action: UpdateSet, view: View, now: int) -> None:
        for element in _elements(exact(view.read(action.element))):
            if action.operation is SetOperation.ADD:
                self._sets[action.set].add(element, action.timeout, now)
            else:
                self._sets[action.set].delete(element, now)

    def _final(self, rule: Rule, decision: Decision, evaluation: _Evaluation, now: int) -> Verdict:
        verdict = evaluation.verdict(decision, Reason.RULE, rule)
        if rule.scope is Scope.FLOW:
            self._flows.remember(evaluation.packet.hook, evaluation.view.read, verdict, now)
        return verdict

    def _failure(self, evaluation: _Evaluation | None, cause: Reason, rule: Rule | None, detail: str) -> Verdict:
        decision = Decision(self.policy.on_failure[cause])
        if evaluation is None:
            return Verdict(decision, cause, detail=detail)
        return evaluation.verdict(decision, cause, rule, detail)

    def _view(self, packet: Packet, now: int) -> View:
        def contains(name: str, element: Element) -> bool:
            return self._sets[name].contains(element, now)

        return View(decode(packet, self.policy.allow), self._clock, contains, self._answer_by(now))

    def _answer_by(self, now: int) -> int | None:
        deadline = self.policy.queue.deadline
        return None if deadline is None else now + round(deadline * 1_000_000_000)


def _elements(value: Known | Unknown | Absent) -> tuple[Element, ...]:
    if isinstance(value, Unknown | Absent):
        return ()
    if isinstance(value, tuple):
        return value
    return (value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value,)

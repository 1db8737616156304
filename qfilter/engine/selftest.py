"""The tests inside a policy: each builds its packets, judges them with the policy fresh in force, and compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from qfilter.engine.base import Engine
from qfilter.engine.build import build
from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.tallies import all_rules
from qfilter.errors import Diagnostic, PacketError
from qfilter.model.policy import Policy, TestCase
from qfilter.model.rule import Rule
from qfilter.model.verdict import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Result:
    """One test and how it ended."""

    case: TestCase
    verdict: Verdict | None
    """None when no packet could be built from the test's fields."""
    problem: str
    """Why it failed; empty when it passed."""

    @property
    def passed(self) -> bool:
        """Whether verdict and decider are what the test expects."""
        return not self.problem

    def diagnostic(self) -> Diagnostic:
        """The failure as a mistake in the policy."""
        return Diagnostic(kind="test-failed", at=self.case.at, message=self.problem)


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """How the tests of a policy ended."""

    __test__ = False  # pytest collects classes called Test*

    results: tuple[Result, ...]
    matched: frozenset[str]
    """Ids of the rules that matched a packet of some test."""
    untested: tuple[Rule, ...]
    """Rules that no test's packet matched, in file order."""

    @property
    def failures(self) -> tuple[Result, ...]:
        """The tests that failed, in file order."""
        return tuple(result for result in self.results if not result.passed)


Make = Callable[[Clock], Engine]
"""Makes a fresh engine of a policy, with a clock."""


def run_tests(
    policy: Policy,
    cases: Iterable[TestCase] | None = None,
    clock: Clock | None = None,
    *,
    make: Make | None = None,
) -> TestOutcome:
    """Run the policy's own tests, or those given, on engines of `make`; without one, on reference engines.

    Each starts with empty sets, full limits and no flows, and all its packets come at one moment: a limit must not pass
    or fail by how fast this machine is.
    """
    matched: set[str] = set()
    fresh: Make = make or partial(ReferenceEngine, policy)

    def run(case: TestCase) -> Result:
        try:
            before, packet = [build(fields) for fields in case.after], build(case.packet)
        except PacketError as error:
            return Result(case, None, str(error))
        engine = fresh(_stopped(clock or Clock()))
        for each in (*before, *[packet] * case.times):
            verdict = engine.decide(each)
        matched.update(row.rule for row in engine.report().rules if row.tally.packets)
        return Result(case, verdict, _compare(case, verdict))

    results = tuple(map(run, policy.tests if cases is None else cases))
    rules = tuple(all_rules(policy.rules))
    return TestOutcome(results, frozenset(matched), tuple(rule for rule in rules if rule.id not in matched))


def decider(verdict: Verdict) -> str:
    """What `by:` compares: the rule's id, `default`, or the failure cause."""
    return verdict.rule or "" if verdict.reason is Reason.RULE else verdict.reason.value


def _stopped(clock: Clock) -> Clock:
    now = clock.monotonic()
    return replace(clock, monotonic=lambda: now)


def _compare(case: TestCase, verdict: Verdict) -> str:
    wanted, got = case.expect, verdict.decision
    right = wanted == got if case.exact else wanted.kind == got.kind
    by = decider(verdict)
    if right and case.by in (None, by):
        return ""
    detail = f" ({verdict.detail})" if verdict.detail else ""
    where = f" at {verdict.at}" if verdict.at else ""
    expected = f"{wanted}" if case.by is None else f"{wanted} by {case.by}"
    return f"expected {expected}, got {got} by {by}{detail}{where}"

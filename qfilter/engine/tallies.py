"""What an engine counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qfilter.model.policy import Policy
from qfilter.model.report import OutcomeTally, Report, RuleTally, SetTally, Tally
from qfilter.model.rule import Count, Rule
from qfilter.model.verdict import CAUSES, Decision, Kind, Reason, Verdict

Row = tuple[str, str, int, int]
"""What was counted: a kind of thing such as `rule`, its name, packets and bytes."""


class Sums:
    """Rows of engines that judge no more, added up by name."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Add what one more engine has counted."""
        for what, name, packets, size in rows:
            before = self._counts.get((what, name), (0, 0))
            self._counts[what, name] = (before[0] + packets, before[1] + size)

    def rows(self) -> Iterator[Row]:
        """The sums, as `Tallies.absorb` takes them."""
        return ((*named, *counts) for named, counts in self._counts.items())


def all_rules(rules: tuple[Rule, ...]) -> Iterator[Rule]:
    """Rules and the rules inside them, in file order."""
    for rule in rules:
        yield rule
        yield from all_rules(rule.rules)


def counter_names(policy: Policy) -> tuple[str, ...]:
    """The named counters of `count:`, in file order."""
    counted = (action.name for rule in all_rules(policy.rules) for action in rule.actions if isinstance(action, Count))
    return tuple(dict.fromkeys(counted))


@dataclass(slots=True)
class _Cell:
    """As Tally, while it grows."""

    packets: int = 0
    bytes: int = 0


class Tallies:
    """Packets and bytes by rule, default, cause, kind of verdict and named counter."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = tuple(all_rules(policy.rules))
        self._counters = counter_names(policy)
        names: dict[str, Iterable[str]] = {
            "rule": (rule.id for rule in self._rules),
            "default": policy.defaults,
            "cause": CAUSES,
            "verdict": Kind,
            "counter": self._counters,
        }
        self._cells = {(what, name): _Cell() for what, each in names.items() for name in each}
        self._malformed: Counter[str] = Counter()

    def inherit(self, former: Tallies) -> None:
        """Count on what was counted under the same names; both do from then on."""
        self._cells |= {key: cell for key, cell in former._cells.items() if key in self._cells}
        self._malformed = former._malformed

    def absorb(self, rows: Iterable[Row]) -> None:
        """Add what was counted elsewhere. Names that the policy lacks are left out."""
        for what, name, packets, size in rows:
            if what == "malformed":
                self._malformed[name] += packets
            elif (what, name) in self._cells:
                cell = self._cells[what, name]
                cell.packets += packets
                cell.bytes += size

    def add(self, what: str, name: str, length: int) -> None:
        """One packet of `length` bytes for `name` among `what` (rule, default, cause, verdict, counter)."""
        cell = self._cells[what, name]
        cell.packets += 1
        cell.bytes += length

    def add_verdict(self, verdict: Verdict, hook: str, length: int) -> None:
        """One packet's end."""
        self.add("verdict", verdict.decision.kind, length)
        if verdict.reason is Reason.DEFAULT:
            self.add("default", hook, length)
        elif verdict.reason is not Reason.RULE:
            self.add("cause", verdict.reason, length)
            if verdict.reason is Reason.MALFORMED:
                self._malformed[verdict.detail] += 1

    def _tally(self, what: str, name: str) -> Tally:
        cell = self._cells[what, name]
        return Tally(cell.packets, cell.bytes)

    def report(self, sets: Mapping[str, SetTally]) -> Report:
        """Everything so far."""
        return Report(
            rules=tuple(
                RuleTally(rule.id, rule.at, rule.verdict, self._tally("rule", rule.id)) for rule in self._rules
            ),
            defaults={
                hook: OutcomeTally(default.decision, default.at, self._tally("default", hook))
                for hook, default in self._policy.defaults.items()
            },
            causes={
                cause: OutcomeTally(
                    Decision(self._policy.on_failure[cause]),
                    self._policy.settings.get(f"on_failure.{cause}"),
                    self._tally("cause", cause),
                )
                for cause in CAUSES
            },
            malformed={code: packets for code, packets in sorted(self._malformed.items()) if packets},
            verdicts={kind: self._tally("verdict", kind) for kind in Kind},
            counters={name: self._tally("counter", name) for name in self._counters},
            sets=sets,
        )

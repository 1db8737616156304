"""Policies by hand for the compiler's tests: only what a test is about is written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.match import Ranges
from qfilter.model.plan import Capabilities
from qfilter.model.policy import Backend, HookDefault, Policy, QueueSettings, Target
from qfilter.model.rule import Condition, FieldTest, Predicate, PythonTest, Rule
from qfilter.model.verdict import ACCEPT, CAUSES, DROP, Decision, Kind, Reason, RejectWith

FILE = "p.yaml"
MACHINE = Capabilities(
    backends={
        Backend.IPTABLES_NFT: frozenset({Target.NFQUEUE}),
        Backend.IPTABLES_LEGACY: frozenset(Target),
    },
    problems={Backend.NFT: "this kernel has no queue statement"},
)


def at(line: int, column: int = 3) -> Position:
    return Position(FILE, line, column)


def reject(answer: RejectWith = RejectWith.PORT_UNREACHABLE) -> Decision:
    return Decision(Kind.REJECT, reject=answer)


def field(name: str, line: int = 10, depth: int = 0) -> FieldTest:
    return FieldTest(name, Ranges(((1, 1),)), at(line, 12), depth)


def python(line: int = 5, column: int = 3, needs: tuple[str, ...] = ()) -> PythonTest:
    """A condition `my.check`, which holds."""
    return PythonTest(Predicate("my.check", needs, lambda _: True), at(line, column))


def rule(line: int, *, verdict: Decision | None = ACCEPT, match: Condition | None = None, **rest: object) -> Rule:
    """A rule at a line, which is also its id."""
    made = Rule(id=f"r{line}", at=at(line), verdict=verdict)
    if match is not None:
        made = replace(made, match=match)
    return replace(made, **rest)  # type: ignore[arg-type]


def policy(
    *rules: Rule,
    defaults: Mapping[Hook, Decision] | Iterable[Hook] = (Hook.INPUT,),
    on_failure: Mapping[Reason, Kind] | None = None,
    queue: QueueSettings | None = None,
    settings: Mapping[str, Position] | None = None,
) -> Policy:
    decisions = defaults if isinstance(defaults, Mapping) else dict.fromkeys(defaults, DROP)
    return Policy(
        path=FILE,
        digest="0" * 64,
        files=(FILE,),
        defaults={hook: HookDefault(decision=decision, at=at(2)) for hook, decision in decisions.items()},
        on_failure=dict.fromkeys(CAUSES, Kind.DROP) | dict(on_failure or {}),
        queue=queue or QueueSettings(),
        rules=rules,
        settings=settings or {},
    )

"""What stands in the kernel of qfilter's, or should: one value for every tool and family, compared as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from qfilter.fields import Family
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Exempt
from qfilter.text import escaped


@dataclass(frozen=True, slots=True)
class Place:
    """Where the packets of a hook are queued: qfilter's chain, and the built-in chain that jumps to it."""

    table: str
    builtin: str
    chain: str

    def __str__(self) -> str:
        return f"{self.table} {self.chain}"


PLACES: Mapping[Hook, Place] = MappingProxyType(
    {
        Hook.PREROUTING: Place("mangle", "PREROUTING", "QFILTER-PRE"),
        Hook.INPUT: Place("filter", "INPUT", "QFILTER-IN"),
        Hook.FORWARD: Place("filter", "FORWARD", "QFILTER-FWD"),
        Hook.OUTPUT: Place("filter", "OUTPUT", "QFILTER-OUT"),
        Hook.POSTROUTING: Place("mangle", "POSTROUTING", "QFILTER-POST"),
    }
)
"""The names that make a chain qfilter's: removal knows nothing else."""

_MISSING_RULE, _FOREIGN_RULE = "missing rule: ", "foreign rule: "

LO_SIDE: Mapping[Hook, str] = MappingProxyType(
    {Hook.PREROUTING: "i", Hook.INPUT: "i", Hook.OUTPUT: "o", Hook.POSTROUTING: "o"}
)
"""Which interface of a packet can be lo; nothing is forwarded from or to it."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule that leads into one of qfilter's chains."""

    table: str
    chain: str
    position: int
    """Counts from 1 within its chain."""
    rule: str


@dataclass(frozen=True, slots=True)
class Chain:
    """One of qfilter's chains as the tool prints it, and what leads into it. nft needs no jumps."""

    rules: tuple[str, ...]
    jumps: tuple[Jump, ...] = ()

    def jumps_first(self) -> Chain:
        """The same as if each jump were the first rule of its chain."""
        return replace(self, jumps=tuple(replace(jump, position=1) for jump in self.jumps))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What stands under one tool and family. Only `chains` is ever desired; the rest is what was found around them."""

    chains: Mapping[Hook, Chain] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    """Tables and base chains (`filter`, `filter INPUT`) that exist only because qfilter was installed."""
    present: frozenset[str] | None = None
    """Tables and base chains that exist; None where a tool never makes one, or nothing can tell."""
    spent: frozenset[str] = frozenset()
    """Those of `made` that would be empty without qfilter's chains."""
    ahead: Mapping[Hook, tuple[str, ...]] = field(default_factory=dict)
    """Other tools' rules that a packet meets before qfilter's."""
    foreign: int = 0
    """How many rules of others stand there, in any table."""
    conntrack: bool = False
    """Whether any rule, whoever's, makes the kernel track connections."""
    unreadable: str = ""
    """Why the tool can neither show nor change what stands; the chains are then known by other means, without rules."""
    generation: bytes | None = None
    """When it was looked at, as the kernel counts; None where the kernel does not tell."""

    def jumps_first(self) -> State:
        """The same as if no rule of others came before qfilter's jumps."""
        return replace(self, chains={hook: chain.jumps_first() for hook, chain in self.chains.items()})

    def shown(self) -> State:
        """The same, to be printed."""
        return replace(
            self,
            chains={
                hook: replace(chain, rules=tuple(map(escaped, chain.rules))) for hook, chain in self.chains.items()
            },
            ahead={hook: tuple(map(escaped, rules)) for hook, rules in self.ahead.items()},
        )


NOTHING = State()


@dataclass(frozen=True, slots=True, order=True)
class Ruleset:
    """One tool's rules for one family; nft's are for both at once (None)."""

    backend: Backend
    family: Family | None

    def __str__(self) -> str:
        return self.backend.value if self.family is None else f"{self.backend.value} {self.family.value}"

    def chain(self, hook: Hook) -> str:
        """The name of the chain that queues a hook's packets, with its table where the tool has several."""
        return hook.value if self.family is None else f"{PLACES[hook]}"


@dataclass(frozen=True, slots=True)
class Command:
    """One call of a tool: the words, and what it reads from standard input."""

    words: tuple[str, ...]
    text: str = ""

    def __str__(self) -> str:
        return " ".join(self.words)


def exempts_lo(rules: KernelRules, hook: Hook) -> bool:
    """Whether packets of the loopback interface are left alone on this hook."""
    return Exempt.LO in rules.exempt and hook in LO_SIDE


def differences(ruleset: Ruleset, found: State, wanted: State) -> tuple[str, ...]:
    """What keeps `found` from being `wanted`, a line each; empty when nothing is to be done."""
    if found.unreadable and wanted.chains:
        return (f"{ruleset}: {found.unreadable}",)
    return tuple(
        escaped(f"{ruleset}: {ruleset.chain(hook)}: {line}")
        for hook in Hook
        for line in _chain_differences(PLACES[hook], found.chains.get(hook), wanted.chains.get(hook))
    )


def _chain_differences(place: Place, found: Chain | None, wanted: Chain | None) -> list[str]:
    if found == wanted:
        return []
    if found is None:
        return ["missing"]
    if wanted is None:
        return ["not wanted"]
    lines = [f"{_MISSING_RULE}{rule}" for rule in wanted.rules if rule not in found.rules]
    lines += [f"{_FOREIGN_RULE}{rule}" for rule in found.rules if rule not in wanted.rules]
    if not lines and found.rules != wanted.rules:
        lines.append("rules repeated or in another order")
    if found.jumps != wanted.jumps:
        where = ", ".join(f"{jump.chain} rule {jump.position}" for jump in found.jumps) or "nowhere"
        lines.append(f"jumped to from {where}, expected only {place.builtin} rule 1")
    return lines


def changes(ruleset: Ruleset, found: State, wanted: State) -> tuple[str, ...]:
    """What turning `found` into `wanted` changes, a line for each chain: what was made, changed or removed."""
    return tuple(
        f"{ruleset}: {_named(ruleset, hook, found.chains.get(hook), wanted.chains.get(hook))}"
        for hook in Hook
        if found.chains.get(hook) != wanted.chains.get(hook)
    )


def _named(ruleset: Ruleset, hook: Hook, found: Chain | None, wanted: Chain | None) -> str:
    jumps = (wanted or found or Chain(())).jumps
    jump = f" and its jump{'s' if len(jumps) > 1 else ''}" if jumps else ""
    return f"{ruleset.chain(hook)}{jump} {'made' if found is None else 'removed' if wanted is None else 'changed'}"


def summary(differences: Sequence[str]) -> str:
    """Differences in one line: a sentence for each ruleset and chain, and what puts them right."""
    grouped: dict[tuple[str, str], list[str]] = {}
    told: list[str] = []
    for difference in differences:
        match difference.split(": ", 2):
            case [ruleset, chain, line] if _is_chain(chain):
                grouped.setdefault((ruleset, chain.split()[-1]), []).append(line)
            case _:
                told.append(" ".join(difference.split()))
    sentences = [f"{ruleset}: {chain} {_summed(lines)}" for (ruleset, chain), lines in grouped.items()]
    return "; ".join((*sentences, *told, "SIGUSR1 puts them back"))


def _is_chain(name: str) -> bool:
    return name in list(Hook) or name in map(str, PLACES.values())


def _summed(lines: list[str]) -> str:
    missing, foreign = (sum(line.startswith(kind) for line in lines) for kind in (_MISSING_RULE, _FOREIGN_RULE))
    rules = [f"has other rules than the policy's: {missing} missing, {foreign} foreign"] if missing or foreign else []
    others = [line for line in lines if not line.startswith((_MISSING_RULE, _FOREIGN_RULE))]
    return " and ".join((*rules, *(f"{'has' if line.startswith('rules') else 'is'} {line}" for line in others)))

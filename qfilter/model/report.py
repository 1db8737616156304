"""What an engine has counted: the table that `run` and `replay` end with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.verdict import Decision, Kind, Reason


@dataclass(frozen=True, slots=True)
class Tally:
    """Packets, and the sum of their lengths in bytes."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class RuleTally:
    """How often a rule matched, whether or not it gave the verdict."""

    rule: str
    at: Position
    decision: Decision | None
    tally: Tally


@dataclass(frozen=True, slots=True)
class OutcomeTally:
    """Packets that got what the policy says for a hook, or for a failure cause."""

    decision: Decision
    at: Position | None
    """Where the policy says so; None for a cause that it does not mention."""
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTally:
    """The live part of a dynamic set."""

    elements: int
    added: int
    refused: int
    """Additions that the size limit refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything counted since the engine was made."""

    rules: tuple[RuleTally, ...]
    """Every rule, nested ones after their parent, in file order."""
    defaults: Mapping[Hook, OutcomeTally]
    """Packets that no rule decided, for each hook in force."""
    causes: Mapping[Reason, OutcomeTally]
    """Packets that a failure cause decided, for each of CAUSES."""
    malformed: Mapping[str, int]
    """Packets by malformed code; only codes that occurred, sorted."""
    verdicts: Mapping[Kind, Tally]
    counters: Mapping[str, Tally]
    """The named counters of `count:`, in file order."""
    sets: Mapping[str, SetTally]
    """The dynamic sets, in file order."""

    @property
    def total(self) -> Tally:
        """Every packet judged."""
        return Tally(
            sum(tally.packets for tally in self.verdicts.values()), sum(tally.bytes for tally in self.verdicts.values())
        )

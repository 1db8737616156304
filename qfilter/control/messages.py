"""What a service can be asked and told, and what it answers. Plain values; `codec` knows how they travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Protocol, Self

from pydantic import ConfigDict, Field

from qfilter.errors import Diagnostic
from qfilter.model.report import Report
from qfilter.policy.values import MAX_DURATION


class _Message:
    """A key that is not known is an error: to pass over it would be to do something else than was asked."""

    __slots__ = ()
    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")


# Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload(_Message):
    """Put a policy in force instead of the present one."""

    path: str | None = None
    """Absolute; None is the file that is in force, read again."""
    kind: Literal["reload"] = "reload"


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatus(_Message):
    """What is in force."""

    kind: Literal["get-status"] = "get-status"


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStats(_Message):
    """What was counted."""

    kind: Literal["get-stats"] = "get-stats"


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSets(_Message):
    """Which sets there are."""

    kind: Literal["get-sets"] = "get-sets"


@dataclass(frozen=True, slots=True, kw_only=True)
class GetElements(_Message):
    """What is in a set: pages of Elements."""

    set: str
    kind: Literal["get-elements"] = "get-elements"


class Change(StrEnum):
    """What is done to a dynamic set."""

    ADD = "add"
    DELETE = "delete"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSet(_Message):
    """Change what is in a dynamic set, beside the elements of the file."""

    set: str
    change: Change
    elements: tuple[str, ...] = ()
    """As `control.elements` writes them; none for a flush, which takes out all."""
    timeout: Annotated[float, Field(gt=0, le=MAX_DURATION)] | None = None
    """Seconds that added elements stay; None takes the set's own."""
    kind: Literal["change-set"] = "change-set"


Request = Reload | GetStatus | GetStats | GetSets | GetElements | ChangeSet


# Answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(_Message):
    """Nothing was done, and why."""

    problem: str
    """One line; empty where the diagnostics say all."""
    diagnostics: tuple[Diagnostic, ...] = ()
    kind: Literal["refused"] = "refused"

    @classmethod
    def by_fault(cls, fault: Exception) -> Self:
        """For what should never have happened."""
        return cls(problem=f"a fault of qfilter's own: {type(fault).__name__}: {fault}")


STOPS = Refused(problem="the service stops: nothing was changed")
"""For whoever wants something that a stop came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded(_Message):
    """Another policy is in force."""

    file: str
    digest: str
    """SHA-256 of the policy, hex."""
    changes: tuple[str, ...]
    """What is other than before, a line each; none when the policy means the same."""
    warnings: tuple[Diagnostic, ...]
    kind: Literal["reloaded"] = "reloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(_Message):
    """What is in force."""

    process: int
    engine: str
    digest: str
    """SHA-256 of the policy, hex."""
    started: str
    """When the service began, RFC 3339 in UTC."""
    since: str
    """When this policy was put in force, RFC 3339 in UTC."""
    in_force: Mapping[str, object]
    """What the `start` event says."""
    queues: tuple[Mapping[str, object], ...]
    """What each queue has lost, as `queue` events say it."""
    events_lost: int
    """Events and captured packets that could not be written."""
    events_error: str
    """Why the last of them could not; empty where there was no room, or all could."""
    kind: Literal["status"] = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(_Message):
    """What was counted since the service began, by the names of the present policy."""

    report: Report
    queues: tuple[Mapping[str, object], ...]
    """What each queue has lost, as `queue` events say it."""
    events_lost: int
    """Events and captured packets that could not be written."""
    events_error: str
    """Why the last of them could not; empty where there was no room, or all could."""
    kind: Literal["stats"] = "stats"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetState:
    """One set."""

    name: str
    type: str
    dynamic: bool
    file: int
    """Elements of the file; adjacent ones are one."""
    added: int
    """Elements that were added and are in it now."""
    size: int | None
    """How many elements can be added; None for a set that is not dynamic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets(_Message):
    """Every set, in file order."""

    sets: tuple[SetState, ...]
    kind: Literal["sets"] = "sets"


@dataclass(frozen=True, slots=True)
class ElementState:
    """One element of a set."""

    element: str
    added: bool
    """False for an element of the file."""
    seconds: float | None = None
    """How long it stays; None is for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements(_Message):
    """A part of what was in a set at one moment."""

    elements: tuple[ElementState, ...]
    more: bool
    """Whether another part follows."""
    kind: Literal["elements"] = "elements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(_Message):
    """What became of a set."""

    count: int
    """Elements that were added, whose time began anew, or that were taken out."""
    refused: int = 0
    """Elements that a full set had no room for."""
    absent: tuple[str, ...] = ()
    """Elements that should be taken out and were not among the added ones."""
    kind: Literal["changed"] = "changed"


Answer = Refused | Reloaded | Status | Stats | Sets | Elements | Changed


class Controlled(Protocol):
    """A service as the control server sees it: any method may be called from the server's thread. Errors are values."""

    def ask_reload(self, path: str | None, tell: Callable[[Reloaded | Refused], None]) -> None:
        """Put the policy of a file in force, or the present one's file again; when that fails nothing changes.

        That takes long: `tell` is told in another thread how it ended, perhaps twice. Reloads come one after the other.
        """

    def status(self) -> Status:
        """What is in force."""

    def stats(self) -> Stats:
        """What was counted."""

    def sets(self) -> Sets:
        """Every set."""

    def elements(self, name: str) -> Iterator[ElementState] | Refused:
        """What is in a set at this moment; the iterator never raises."""

    def change_set(self, change: ChangeSet) -> Changed | Refused:
        """Add to a dynamic set, take from it, or empty it."""

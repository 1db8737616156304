"""Mistakes are collected, not raised one by one: a load reports all of them, of all files, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

from qfilter.errors import Diagnostic, PolicyError, Position
from qfilter.policy.kinds import KINDS
from qfilter.policy.node import Node


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or None."""
    known = list(candidates)
    found = get_close_matches(word, known, n=len(known) or 1, cutoff=0.6)
    # Letters that changed places are the most common slip: `tpc` is tcp, although xtp is as much alike.
    return str(min(found, key=lambda each: sorted(each) != sorted(word))) if found else None


@dataclass(slots=True)
class Problems:
    """The diagnostics of one load."""

    line: Callable[[Position], str] = lambda _: ""
    """The text of the line of a position, for the caret."""
    stack: Callable[[str], tuple[Position, ...]] = lambda _: ()
    """The include entries that led to a file, innermost first."""
    found: list[Diagnostic] = field(default_factory=list)
    muted: frozenset[str] = frozenset()
    """Kinds that would only follow from what is already reported, such as what a broken include would have defined."""
    _seen: set[tuple[Position, str]] = field(default_factory=set)
    _trapped: set[Position] = field(default_factory=set)

    def error(self, kind: str, node: Node, message: str, *, suggestion: str | None = None) -> None:
        """A mistake at a node. `kind` is one of `kinds.KINDS`."""
        self.add(kind, node.at, message, width=node.width, suggestion=suggestion)

    def add(
        self,
        kind: str,
        at: Position,
        message: str,
        *,
        width: int = 1,
        suggestion: str | None = None,
        severity: str = "error",
    ) -> None:
        """A mistake at a position. The same one twice, or one that follows from a trap or tag there, is left out."""
        assert kind in KINDS, kind
        if kind in self.muted or (at, message) in self._seen or at in self._trapped:
            return
        self._seen.add((at, message))
        if kind in ("yaml-trap", "tag"):
            self._trapped.add(at)
        self.found.append(
            Diagnostic(
                kind=kind,
                at=at,
                message=message,
                severity=severity,
                source=self.line(at),
                width=width,
                suggestion=suggestion,
                included_from=self.stack(at.file),
            )
        )

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """What keeps the policy from loading, by file and line."""
        return tuple(sorted((d for d in self.found if d.severity == "error"), key=lambda d: d.at))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What is odd but has a meaning."""
        return tuple(sorted((d for d in self.found if d.severity == "warning"), key=lambda d: d.at))

    def check(self) -> None:
        """Raise PolicyError when there is any error."""
        if self.errors:
            raise PolicyError(self.errors)

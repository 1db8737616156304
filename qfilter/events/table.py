"""What `run` and `replay` end with, as text: the table of rules, and what else was counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qfilter.events.line import Style, by_verdict, plain, visible
from qfilter.model.report import OutcomeTally, Report, Tally
from qfilter.model.verdict import Decision

HEADER = ("rule", "verdict", "packets", "bytes", "at")
_RIGHT = ("packets", "bytes")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a rule, a hook's default, a failure cause, a counter, or the sum."""

    name: str
    decision: Decision | None
    """None for a rule that only acts, and for what has several."""
    tally: Tally
    at: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As in HEADER, fit for a terminal."""
        texts = (self.name, self.decision or "", f"{self.tally.packets:,}", f"{self.tally.bytes:,}", self.at)
        return tuple(visible(text) for text in texts)

    @property
    def looks(self) -> tuple[str, ...]:
        """The name of each cell's look, see Style; empty is none."""
        if not self.tally.packets:
            return ("dim",) * len(HEADER)
        return ("", self.decision.kind if self.decision else "dim", "", "", "dim")


def rows(report: Report) -> Iterator[Row]:
    """Every rule in file order, also those that never matched; defaults; causes that occurred; counters; the sum."""
    for rule in report.rules:
        yield Row(rule.rule, rule.decision, rule.tally, str(rule.at))
    for hook, default in report.defaults.items():
        yield _outcome(f"default {hook}", default)
    for cause, outcome in report.causes.items():
        if outcome.tally.packets:
            yield _outcome(f"failure {cause}", outcome)
    for name, tally in report.counters.items():
        yield Row(f"count {name}", None, tally)
    yield Row("all packets", None, report.total)


def _outcome(name: str, outcome: OutcomeTally) -> Row:
    return Row(name, outcome.decision, outcome.tally, "" if outcome.at is None else str(outcome.at))


def remarks(report: Report) -> Iterator[str]:
    """What has no row: packets by verdict and by malformed code, and the dynamic sets; a line each."""
    yield f"verdicts: {by_verdict({kind: tally.packets for kind, tally in report.verdicts.items()})}"
    for code, packets in report.malformed.items():
        yield f"malformed {code}: {packets:,}"
    for name, live in report.sets.items():
        refused = f", {live.refused:,} refused because it was full" if live.refused else ""
        yield f"set {name}: {live.elements:,} elements now, {live.added:,} added{refused}"


def render(report: Report, style: Style = plain, losses: Iterable[str] = ()) -> str:
    """The rows in aligned columns under a header, then a line each for the remarks and for what was lost."""
    table = [(HEADER, ("header",) * len(HEADER)), *((row.cells, row.looks) for row in rows(report))]
    widths = [max(map(len, column)) for column in zip(*(cells for cells, _ in table), strict=True)]
    lines = [_line(cells, looks, widths, style) for cells, looks in table]
    lines += [visible(line) for line in remarks(report)]
    lines += [style(visible(line), "failure") for line in losses]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: tuple[str, ...], looks: tuple[str, ...], widths: list[int], style: Style) -> str:
    padded = (
        cell.rjust(width) if title in _RIGHT else cell.ljust(width)
        for cell, width, title in zip(cells, widths, HEADER, strict=True)
    )
    *front, last = padded
    texts = (*front, last.rstrip())
    return "  ".join(style(text, look) if look else text for text, look in zip(texts, looks, strict=True))

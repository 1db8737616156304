"""The table of rules that `run` and `replay` end with, as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qfilter.events.line import visible
from qfilter.model.report import Report, Tally

HEADER = ("rule", "verdict", "packets", "bytes", "at")
_RIGHT = ("packets", "bytes")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a rule, a hook's default, a failure cause, or the sum."""

    name: str
    verdict: str
    """Empty for a rule that only acts, and for what has several."""
    tally: Tally
    at: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As in HEADER, fit for a terminal."""
        texts = (self.name, self.verdict, f"{self.tally.packets:,}", f"{self.tally.bytes:,}", self.at)
        return tuple(visible(text) for text in texts)


def rows(report: Report) -> Iterator[Row]:
    """Every rule in file order, also those that never matched; the defaults; the causes that occurred; all packets."""
    for rule in report.rules:
        yield Row(rule.rule, str(rule.decision or ""), rule.tally, str(rule.at))
    for hook, tally in report.defaults.items():
        yield Row(f"default {hook}", "", tally)
    for cause, tally in report.causes.items():
        if tally.packets:
            yield Row(f"failure {cause}", "", tally)
    yield Row("all packets", "", report.total)


def render(report: Report) -> str:
    """The rows in aligned columns, one a line, under a header."""
    lines = [HEADER, *(row.cells for row in rows(report))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.rjust(width) if title in _RIGHT else cell.ljust(width)
            for cell, width, title in zip(line, widths, HEADER, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )

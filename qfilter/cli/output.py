"""What the commands write: colours only on a terminal and never with NO_COLOR, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qfilter.errors import (
    Diagnostic,
    FirewallError,
    PolicyError,
    PrivilegeError,
    QFilterError,
    QueueError,
    UnsupportedError,
)
from qfilter.model.report import Report, Tally
from qfilter.model.verdict import Decision, Kind
from qfilter.policy.render import as_dict, as_text

COLOURS = {
    Kind.ACCEPT: "green",
    Kind.DROP: "red",
    Kind.REJECT: "magenta",
    Kind.QUEUE: "cyan",
    Kind.REPEAT: "cyan",
}

_CODES: tuple[tuple[type[QFilterError], int], ...] = (
    (PrivilegeError, 3),
    (UnsupportedError, 4),
    (QueueError, 4),
    (FirewallError, 4),
)


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error. rich knows terminals and NO_COLOR."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def report_error(error: QFilterError) -> int:
    """Write an error for the person who must act on it, and return the exit code."""
    if isinstance(error, PolicyError):
        write_diagnostics(error.diagnostics)
    else:
        console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)))
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def write_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Every mistake with its line and caret, on standard error."""
    out = console(stderr=True)
    for diagnostic in diagnostics:
        head, _, rest = as_text([diagnostic]).rstrip("\n").partition("\n")
        colour = "bold red" if diagnostic.severity == "error" else "bold yellow"
        out.print(Text(head, style=colour))
        if rest:
            out.print(Text(rest))


def write_json(value: object) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def diagnostics_as_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """For editors and CI."""
    return [dict(as_dict(diagnostic)) for diagnostic in diagnostics]


def decision_text(decision: Decision | None) -> Text:
    """A decision in its colour."""
    return Text("-", style="dim") if decision is None else Text(str(decision), style=COLOURS[decision.kind])


def write_report(report: Report, out: Console) -> None:
    """The table of rules, then what no rule decided."""
    table = Table(title="rules", title_justify="left", box=None, pad_edge=False)
    for name in ("rule", "verdict", "packets", "bytes", "at"):
        table.add_column(name, justify="right" if name in ("packets", "bytes") else "left", no_wrap=True)
    for row in report.rules:
        _add(table, row.rule, decision_text(row.decision), row.tally, str(row.at))
    for hook, tally in report.defaults.items():
        _add(table, f"default of {hook}", Text(""), tally, "")
    for cause, tally in report.causes.items():
        if tally.packets:
            _add(table, f"on_failure {cause}", Text(""), tally, "")
    for name, tally in report.counters.items():
        _add(table, f"count {name}", Text(""), tally, "")
    out.print(table)
    total = report.total
    verdicts = ", ".join(f"{tally.packets} {kind}" for kind, tally in report.verdicts.items() if tally.packets)
    out.print(f"{total.packets} packets, {total.bytes} bytes" + (f": {verdicts}" if verdicts else ""))
    for code, packets in report.malformed.items():
        out.print(f"malformed {code}: {packets}")
    for name, live in report.sets.items():
        refused = f", {live.refused} refused because it is full" if live.refused else ""
        out.print(f"set {name}: {live.elements} elements, {live.added} added{refused}")


def _add(table: Table, name: str, decision: Text, tally: Tally, at: str) -> None:
    style = "" if tally.packets else "dim"
    table.add_row(Text(name, style=style), decision, str(tally.packets), str(tally.bytes), Text(at, style="dim"))


def fail(message: str) -> click.UsageError:
    """A mistake on the command line."""
    return click.UsageError(message)

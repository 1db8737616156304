"""`qfilter fields`: the field table, for people and as docs/fields.md."""

from __future__ import annotations

import click
from rich.table import Table

from qfilter.cli.output import console, write_json
from qfilter.fields import FIELDS, Family, Field
from qfilter.model.hook import Hook
from qfilter.names import protocols

_NAMES = 24
"""Names of a field that its row shows; ports and protocols have hundreds."""


@click.command("fields", epilog="Example: qfilter fields tcp")
@click.argument("words", nargs=-1)
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text")
def command(words: tuple[str, ...], form: str) -> None:
    """List the fields that a match can name; WORDS keep those whose name or description has one of them."""
    rows = [row for row in FIELDS.values() if not words or any(word in f"{row.name} {row.doc}" for word in words)]
    if not rows:
        raise click.UsageError(f"no field is about {' or '.join(map(repr, words))}")
    if form == "json":
        write_json([_as_dict(row) for row in rows])
    elif form == "markdown":
        click.echo(markdown(rows), nl=False)
    else:
        _table(rows)


def markdown(rows: list[Field]) -> str:
    """The reference page."""
    lines = [
        "# Fields",
        "",
        "Generated from the field table by `qfilter fields --format markdown`. A condition on a field that the packet",
        "does not have is false, also when negated. `inner.` before a field of the network, transport or payload layer",
        "reads it inside a tunnel, up to four deep.",
    ]
    layer = ""
    for row in rows:
        if row.layer != layer:
            layer = row.layer
            lines += [
                "",
                f"## {layer}",
                "",
                "| field | type | values | where | what | source |",
                "|---|---|---|---|---|---|",
            ]
        cells = (f"`{row.name}`", _type(row), _values(row), _where(row), row.doc, row.source)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## names", "", "| field | names |", "|---|---|"]
    lines += [f"| `{row.name}` | {_names(row)} |" for row in rows if row.names]
    return "\n".join(lines) + "\n"


def _table(rows: list[Field]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("field", "type", "values", "where", "what"):
        table.add_column(name, overflow="fold", no_wrap=name == "field")
    for row in rows:
        table.add_row(row.name, _type(row), _values(row), _where(row), row.doc)
    console().print(table, soft_wrap=False)


def _type(row: Field) -> str:
    return f"{row.type}, several" if row.many else row.type.value


def _values(row: Field) -> str:
    if not row.high:
        return ""
    return f"{row.low}-{row.high}" + (f" {row.unit}" if row.unit else "")


def _where(row: Field) -> str:
    parts = [protocols().name(number) for number in row.protocols]
    parts += [] if row.families == tuple(Family) else [family.value for family in row.families]
    parts += [] if row.hooks == tuple(Hook) else [hook.value for hook in row.hooks]
    return ", ".join(parts) or "all"


def _names(row: Field) -> str:
    shown = [f"{name} {number}" for name, number in list(row.names.items())[:_NAMES]]
    more = len(row.names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _as_dict(row: Field) -> dict[str, object]:
    return {
        "name": row.name,
        "type": row.type.value,
        "many": row.many,
        "layer": row.layer.value,
        "low": row.low,
        "high": row.high,
        "unit": row.unit,
        "names": dict(row.names),
        "families": [family.value for family in row.families],
        "protocols": list(row.protocols),
        "hooks": [hook.value for hook in row.hooks],
        "doc": row.doc,
        "source": row.source,
    }

"""`qfilter stats`: what a running service has counted."""

from __future__ import annotations

import click
from pydantic import TypeAdapter

from qfilter.cli.control import control_option
from qfilter.cli.output import console, style_on, write_json
from qfilter.control.client import ControlClient
from qfilter.events.line import losses, unwritten
from qfilter.events.table import render
from qfilter.model.report import Report


@click.command("stats", epilog="Example: sudo qfilter stats --format json")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@control_option
def command(form: str, control: str | None) -> None:
    """Show the table of rules that `qfilter run` ends with, as it is now."""
    with ControlClient(control) as client:
        stats = client.stats()
    if form == "json":
        report = TypeAdapter(Report).dump_python(stats.report, mode="json")
        events = {"events_lost": stats.events_lost, "events_error": stats.events_error}
        write_json({"report": report, "queues": stats.queues, **events})
    else:
        lost = [text for queue in stats.queues if (text := losses(queue))]
        if text := unwritten(stats.events_lost, stats.events_error):
            lost.append(text)
        click.echo(render(stats.report, style_on(console()), lost), nl=False)

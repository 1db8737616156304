"""`qfilter reload`: another policy, or the same file again, while packets flow."""

from __future__ import annotations

import click

from qfilter.cli.control import control_option
from qfilter.cli.output import write_diagnostics
from qfilter.control.client import ControlClient
from qfilter.events.line import visible


@click.command("reload", epilog="Example: sudo qfilter reload")
@click.argument("policy", type=click.Path(readable=False), required=False)
@control_option
def command(policy: str | None, control: str | None) -> None:
    """Put POLICY in force instead of the one that `qfilter run` serves; without POLICY read that one's file again.

    It is checked, and its tests are run, first: a policy that is not in order changes nothing (exit code 1). Dynamic
    sets, limits, counters and flows go on by name. Every packet is judged by one of the two policies, and none is lost.
    """
    with ControlClient(control) as client:
        done = client.reload(policy)
    write_diagnostics(done.warnings)
    for line in done.changes:
        click.echo(visible(line))
    click.echo(f"reloaded {visible(done.file)}" + ("" if done.changes else ": nothing means otherwise"))

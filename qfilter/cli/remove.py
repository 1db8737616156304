"""`qfilter remove`: everything of qfilter's out of the kernel rules."""

from __future__ import annotations

import click

from qfilter import firewall


@click.command("remove", epilog="Example: sudo qfilter remove")
def command() -> None:
    """Remove every chain and jump of qfilter's, by whatever tool it was installed; leave everybody else's rules.

    While `qfilter run` looks after its rules they stay: end it, and it removes them.
    """
    with firewall.lock():
        done = firewall.remove()
    for step in done:
        click.echo(f"{step}")
    click.echo("removed" if done else "nothing of qfilter's is installed")

"""`qfilter remove`: everything of qfilter's out of the kernel rules."""

from __future__ import annotations

import click

from qfilter import firewall


@click.command("remove", epilog="Example: sudo qfilter remove")
def command() -> None:
    """Remove every chain and jump of qfilter's, by whatever tool it was installed; leave everybody else's rules.

    Works also while `qfilter run` serves, for whoever is locked out: then nothing is queued until it is told SIGUSR1.
    """
    with firewall.lock_or_reason() as reason:
        done = firewall.remove()
    for step in done:
        click.echo(step)
    click.echo("removed" if done else "nothing of qfilter's is installed")
    if reason is not None:
        click.echo(reason, err=True)

"""`qfilter remove`: everything of qfilter's out of the kernel rules."""

from __future__ import annotations

import click

from qfilter import firewall
from qfilter.cli.output import console


@click.command("remove", epilog="Example: sudo qfilter remove")
def command() -> None:
    """Remove every chain and jump of qfilter's, by whatever tool it was installed; leave everybody else's rules."""
    done = firewall.remove()
    out = console()
    for step in done:
        out.print(f"{step}", markup=False)
    out.print("removed" if done else "nothing of qfilter's is installed", markup=False)

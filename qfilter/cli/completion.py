"""`qfilter completion`: the script that makes a shell complete qfilter's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion", epilog="Example: qfilter completion bash > /etc/bash_completion.d/qfilter")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    made_by = get_completion_class(shell)
    assert made_by is not None
    root = context.find_root()
    click.echo(made_by(root.command, {}, "qfilter", "_QFILTER_COMPLETE").source())

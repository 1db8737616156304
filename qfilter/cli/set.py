"""`qfilter set`: the sets of a running service, as `nft list set` and `nft add element` for the kernel's."""

from __future__ import annotations

from dataclasses import asdict

import click

from qfilter.cli.control import control_option
from qfilter.cli.output import write_json
from qfilter.control.client import ControlClient
from qfilter.control.messages import ElementState, SetState
from qfilter.events.line import visible
from qfilter.policy.values import BadValueError, read_duration

_format = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


@click.group("set", epilog="Example: sudo qfilter set add blocklist 203.0.113.9 --timeout 10m")
def command() -> None:
    """List the sets of the service, and change the dynamic ones while packets flow.

    What is added stays until its time is over, also when the policy is reloaded, but not when the service ends. The
    elements of the policy's own files cannot be taken out.
    """


@command.command("list", epilog="Example: sudo qfilter set list blocklist")
@click.argument("name", required=False)
@_format
@control_option
def list_(name: str | None, form: str, control: str | None) -> None:
    """Show every set, or what is in one and for how long: first what was added, then what the policy has."""
    with ControlClient(control) as client:
        if name is None:
            found = client.sets().sets
            if form == "json":
                write_json([asdict(each) for each in found])
            else:
                click.echo("".join(f"{_state(each)}\n" for each in found) or "the policy has no sets\n", nl=False)
        elif form == "json":
            write_json([asdict(element) for element in client.elements(name)])
        else:
            for element in client.elements(name):
                click.echo(f"{visible(element.element)}  {_time_left(element)}")


@command.command("add", epilog="Example: sudo qfilter set add blocklist 203.0.113.9 2001:db8::9 --timeout 10m")
@click.argument("name")
@click.argument("elements", nargs=-1, required=True)
@click.option("--timeout", help="How long they stay, such as 10m; without it as long as the set says.")
@control_option
@click.pass_context
def add(context: click.Context, name: str, elements: tuple[str, ...], timeout: str | None, control: str | None) -> None:
    """Add ELEMENTS to a dynamic set, or start their time anew. The next packet finds them. Exit code 1: it is full."""
    seconds = None if timeout is None else _seconds(timeout)
    with ControlClient(control) as client:
        done = client.add(name, elements, seconds)
    click.echo(f"{done.count:,} added")
    if done.refused:
        click.echo(f"{done.refused:,} refused: the set is full", err=True)
    context.exit(1 if done.refused else 0)


@command.command("delete", epilog="Example: sudo qfilter set delete blocklist 203.0.113.9")
@click.argument("name")
@click.argument("elements", nargs=-1, required=True)
@control_option
@click.pass_context
def delete(context: click.Context, name: str, elements: tuple[str, ...], control: str | None) -> None:
    """Take ELEMENTS that were added out of a dynamic set. Exit code 1: one was not there."""
    with ControlClient(control) as client:
        done = client.delete(name, elements)
    click.echo(f"{done.count:,} deleted")
    for element in done.absent:
        click.echo(f"{visible(element)}: not among the elements that were added", err=True)
    context.exit(1 if done.absent else 0)


@command.command("flush", epilog="Example: sudo qfilter set flush blocklist")
@click.argument("name")
@control_option
def flush(name: str, control: str | None) -> None:
    """Take all that was added out of a dynamic set."""
    with ControlClient(control) as client:
        click.echo(f"{client.flush(name).count:,} deleted")


def _seconds(text: str) -> float:
    try:
        return read_duration(text)
    except BadValueError as wrong:
        raise click.BadParameter(wrong.message, param_hint="--timeout") from None


def _state(each: SetState) -> str:
    added = f", {each.added:,} of {each.size:,} added" if each.size is not None else ""
    return f"{visible(each.name)}  {each.type}, {each.file:,} in the policy{added}"


def _time_left(element: ElementState) -> str:
    if not element.added:
        return "in the policy"
    return "for ever" if element.seconds is None else f"for {_duration(element.seconds)}"


def _duration(seconds: float) -> str:
    """The two largest units, such as `1h5m`; what is left of a second is one."""
    left = max(1, round(seconds))
    parts = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])

"""`qfilter status`: what is installed, who holds the queues, and how they fare."""

from __future__ import annotations

from dataclasses import replace

import click

from qfilter import firewall
from qfilter.cli.control import control_option
from qfilter.cli.install import backend_option
from qfilter.cli.output import console, style_on, write_json
from qfilter.control.client import ControlClient
from qfilter.control.messages import Status as Service
from qfilter.daemon import prepare
from qfilter.errors import ControlError, PrivilegeError
from qfilter.events.line import in_force
from qfilter.model.policy import Backend
from qfilter.netlink.queues import BoundQueue, bound_queues, holder
from qfilter.policy.load import load

_PATIENCE = 3.0
"""Seconds for the service to answer."""


@click.command("status", epilog="Example: sudo qfilter status rules/gateway.yaml")
@click.argument("policy", type=click.Path(), required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@control_option
@backend_option
@click.pass_context
def command(
    context: click.Context, policy: str | None, form: str, control: str | None, backend: Backend | None
) -> None:
    """Show what is in force, qfilter's kernel rules and every bound queue.

    With POLICY, tell what the kernel rules differ in from it; exit code 1 if any.

    Rules whose queue nobody holds differ too.
    """
    kernel = None if policy is None else prepare(load(policy), backend=backend).kernel
    found = firewall.status(kernel)
    queues = bound_queues()
    status = _with_unheld(found, queues, differs=kernel is not None)
    service = _ask(control)
    if form == "json":
        answer = None if isinstance(service, str) else _service_as_dict(service)
        write_json({"service": answer, **_as_dict(status, queues)})
    else:
        click.echo(service if isinstance(service, str) else _in_words(service))
        _tell(status, queues)
    context.exit(1 if status.differences else 0)


def _ask(control: str | None) -> Service | str:
    """What the service says, or why it says nothing: the kernel's side is shown all the same."""
    try:
        with ControlClient(control, timeout=_PATIENCE) as client:
            return client.status()
    except (ControlError, PrivilegeError) as error:
        return str(error)


def _in_words(service: Service) -> str:
    return (
        f"in force: {in_force(service.in_force)}\n"
        f"    since {service.since}, process {service.process}, engine {service.engine}, policy {service.digest}"
    )


def _service_as_dict(service: Service) -> dict[str, object]:
    return {
        "process": service.process,
        "engine": service.engine,
        "policy": service.digest,
        "started": service.started,
        "since": service.since,
        "in_force": service.in_force,
        "queues": service.queues,
    }


def _with_unheld(status: firewall.Status, queues: dict[int, BoundQueue], *, differs: bool) -> firewall.Status:
    """With what becomes of packets whose queue nobody holds: a difference where there is a policy to serve."""
    lines = tuple(firewall.unheld(firewall.feeds(status.found), queues))
    if differs:
        return replace(status, differences=(*status.differences, *lines))
    return replace(status, remarks=(*status.remarks, *lines))


def _tell(status: firewall.Status, queues: dict[int, BoundQueue]) -> None:
    style = style_on(console())
    installed = {ruleset: state for ruleset, state in status.found.states.items() if state.chains}
    if not installed:
        click.echo("no kernel rules of qfilter's are installed")
    for ruleset, state in installed.items():
        for hook, chain in state.chains.items():
            click.echo(f"{ruleset}: {firewall.PLACES[hook]} on {hook}")
            for rule in chain.rules:
                click.echo(f"    {rule}")
    for number, queue in sorted(queues.items()):
        click.echo(
            f"queue {number}: held by {holder(queue.port_id)}, {queue.waiting} waiting, "
            f"copies {queue.copy_range} bytes, {queue.dropped_full} dropped because it was full, "
            f"{queue.dropped_socket} dropped at the socket, {queue.last_id} packets so far"
        )
    if not queues:
        click.echo("no queue is bound")
    tracked = "on: fragments are put together before qfilter sees them" if status.conntrack else "off"
    click.echo(f"connection tracking: {tracked}")
    for remark in status.remarks:
        click.echo(f"note: {remark}")
    for line in status.differences:
        click.echo(style(f"differs: {line}", "failure"))


def _as_dict(status: firewall.Status, queues: dict[int, BoundQueue]) -> dict[str, object]:
    return {
        "rules": [
            {
                "ruleset": str(ruleset),
                "hook": hook.value,
                "chain": str(firewall.PLACES[hook]),
                "rules": list(chain.rules),
            }
            for ruleset, state in status.found.states.items()
            for hook, chain in state.chains.items()
        ],
        "queues": [
            {
                "number": number,
                "holder": holder(queue.port_id),
                "port_id": queue.port_id,
                "waiting": queue.waiting,
                "copy_range": queue.copy_range,
                "dropped_full": queue.dropped_full,
                "dropped_socket": queue.dropped_socket,
                "packets": queue.last_id,
            }
            for number, queue in sorted(queues.items())
        ],
        "conntrack": status.conntrack,
        "remarks": list(status.remarks),
        "differences": list(status.differences),
    }

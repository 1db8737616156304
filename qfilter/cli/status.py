"""`qfilter status`: what is in force, what is installed, who holds the queues, and how they fare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from qfilter import firewall
from qfilter.cli.control import control_option
from qfilter.cli.install import backend_option
from qfilter.cli.output import console, style_on, write_json
from qfilter.control.client import ControlClient
from qfilter.control.messages import Status as Service
from qfilter.control.place import default_path
from qfilter.daemon import prepare
from qfilter.errors import ControlError, PrivilegeError
from qfilter.events.line import in_force, unwritten
from qfilter.model.policy import Backend, Policy
from qfilter.netlink.queues import BoundQueue, bound_queues, holder
from qfilter.policy.load import load

_PATIENCE = 3.0
"""Seconds for the service to answer."""


@click.command("status", epilog="Example: sudo qfilter status rules/gateway.yaml")
@click.argument("policy", type=click.Path(readable=False), required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@control_option
@backend_option
@click.pass_context
def command(
    context: click.Context, policy: str | None, form: str, control: str | None, backend: Backend | None
) -> None:
    """Show what is in force, qfilter's kernel rules and every bound queue.

    Exit code 1 when something differs: rules whose queue nobody holds, a service that does not answer; with POLICY also
    the policy in force, and the kernel rules.
    """
    wanted = None if policy is None else load(policy)
    service = _ask(control)
    found, queues = firewall.status(), bound_queues()
    differences = [
        *_of_service(service, wanted, Path(control) if control else None),
        *(() if wanted is None else _of_rules(wanted, backend, found, service)),
        *firewall.unheld(firewall.feeds(found.found), queues),
    ]
    status = replace(found, differences=tuple(differences))
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
    lost = unwritten(service.events_lost, service.events_error)
    return (
        f"in force: {in_force(service.in_force)}\n"
        f"    since {service.since}, process {service.process}, engine {service.engine}, policy {service.digest}"
        + (f"\n    {lost}" if lost else "")
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
        "events_lost": service.events_lost,
        "events_error": service.events_error,
    }


def _of_service(service: Service | str, wanted: Policy | None, control: Path | None) -> Iterator[str]:
    """Where no service was asked for and none has left a socket, none is missing."""
    if isinstance(service, Service):
        if wanted is not None and wanted.digest != service.digest:
            yield (
                f"the policy in force is another one (digest {service.digest[:12]}, expected {wanted.digest[:12]}), "
                f"since {service.since}: qfilter reload {wanted.path}"
            )
    elif wanted is not None:
        yield f"no service says that {wanted.path} is in force"
    elif control is not None or default_path().exists():
        yield "the service does not answer"


def _of_rules(
    policy: Policy, backend: Backend | None, found: firewall.Status, service: Service | str
) -> tuple[str, ...]:
    """Compared by the tool that was asked for, or that the policy names, or else by the one that was taken before."""
    if backend is None and policy.queue.backend is Backend.AUTO:
        backend = _taken(found, service)
    kernel = prepare(policy, backend=backend).kernel
    return firewall.differences(kernel, found.found)


def _taken(found: firewall.Status, service: Service | str) -> Backend | None:
    """The tool of the service, or the only one whose rules stand."""
    if isinstance(service, Service) and service.in_force["backend"] is not None:
        return Backend(str(service.in_force["backend"]))
    standing = {ruleset.backend for ruleset, state in found.found.states.items() if state.chains}
    return standing.pop() if len(standing) == 1 else None


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

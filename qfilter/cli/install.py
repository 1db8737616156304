"""`qfilter install`: the kernel rules of a policy, without serving them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from qfilter import firewall
from qfilter.daemon import prepare
from qfilter.model.policy import Backend
from qfilter.netlink.queues import bound_queues
from qfilter.policy.load import load


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--backend`: force the tool."""
    decorate = click.option(
        "--backend",
        type=click.Choice([backend.value for backend in Backend]),
        callback=lambda _context, _option, name: None if name is None else Backend(name),
        help="The tool that installs the kernel rules; without it the policy's, or the first that works.",
    )
    decorated: Callable[..., Any] = decorate(command)
    return decorated


@click.command("install", epilog="Example: sudo qfilter install rules/gateway.yaml --print")
@click.argument("policy", type=click.Path(readable=False))
@click.option("--print", "only_print", is_flag=True, help="Show the exact commands or restore text and do nothing.")
@backend_option
def command(policy: str, only_print: bool, backend: Backend | None) -> None:
    """Install the kernel rules that queue packets for POLICY. Doing it twice changes nothing.

    Nobody judges the packets until `qfilter run --no-install` is there: until then they have the outcome of
    `no_listener`. `qfilter run` alone installs and removes the rules by itself.
    """
    plan = prepare(load(policy), backend=backend)
    assert plan.kernel is not None
    if only_print:
        click.echo(firewall.render(plan.kernel, firewall.families()), nl=False)
        return
    with firewall.lock():
        done = firewall.install(plan.kernel)
    for step in done:
        click.echo(step)
    click.echo(f"installed by {plan.kernel.backend}" if done else "already installed: nothing to do")
    warning = None if plan.ip_queue else firewall.unserved(plan.kernel, bound_queues())
    if warning is not None:
        click.echo(warning, err=True)

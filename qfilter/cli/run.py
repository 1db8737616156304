"""`qfilter run`: a policy in force."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR1
from types import FrameType

import click

from qfilter.cli.engines import engine_option
from qfilter.cli.install import backend_option
from qfilter.cli.output import console, report, style_on, unhurried, write_diagnostics
from qfilter.control.place import default_path
from qfilter.control.systemd import tell_ready
from qfilter.daemon import EngineName, Service, prepare
from qfilter.events.line import in_force, losses, unwritten
from qfilter.events.outputs import Outputs
from qfilter.events.table import render
from qfilter.firewall.watch import EVERY
from qfilter.model.policy import Backend
from qfilter.policy.load import load

Handlers = Mapping[int, Callable[[], None]]


@contextmanager
def _on_signals(handlers: Handlers) -> Iterator[None]:
    """Signals do this meanwhile, and afterwards what they did before. Child processes are as if nothing was said."""

    def handle(number: int, _frame: FrameType | None) -> None:
        handlers[number]()

    before = {number: signal.signal(number, handle) for number in handlers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _reporting() -> Iterator[None]:
    """What ends the command is reported here, where nobody waits for readers, and becomes its exit code."""
    try:
        yield
    except Exception as error:
        raise click.exceptions.Exit(report(error)) from error


def _ignore() -> None:
    """Before there is a service: the files are read now anyway, and there are no kernel rules to repair."""


@click.command("run", epilog="Example: sudo qfilter run rules/gateway.yaml --events /var/log/qfilter.json")
@click.argument("policy", type=click.Path(readable=False))
@click.option("--no-install", is_flag=True, help="Leave the kernel rules to you; only bind the policy's queues.")
@click.option("--keep-rules", is_flag=True, help="Leave the kernel rules at the end: no_listener then has its outcome.")
@click.option("--events", type=click.Path(dir_okay=False), help="Append events to this file, one JSON object a line.")
@click.option("--captures", type=click.Path(file_okay=False), default=".", help="Folder of `capture` files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "line", "json", "none"]),
    default="auto",
    help="Events on standard output; auto is a readable line on a terminal and JSON elsewhere.",
)
@click.option(
    "--compare",
    type=click.FloatRange(min=0.1),
    default=EVERY,
    show_default=True,
    help="Seconds between two looks at whether somebody changed the kernel rules.",
)
@click.option("--control", type=click.Path(), help="Socket for `qfilter reload`, `set`, `stats` and `status`.")
@backend_option
@engine_option
@_on_signals({SIGHUP: _ignore, SIGUSR1: _ignore})
@unhurried(stderr=True)
@_reporting()
def command(
    policy: str,
    no_install: bool,
    keep_rules: bool,
    events: str | None,
    captures: str,
    form: str,
    compare: float,
    control: str | None,
    backend: Backend | None,
    engine: EngineName,
) -> None:
    """Put POLICY in force: check it, run its tests, bind its queues, install the kernel rules, judge until SIGTERM.

    At the end, which Ctrl-C brings about too, the kernel rules are removed, then the queues are let go, and the table
    of rules is printed. SIGHUP opens the events file anew and puts POLICY in force again, as `qfilter reload` does.
    When somebody changes the kernel rules, an event and a line say so, and SIGUSR1 installs them again. When serving
    fails, the kernel rules stay, so that nothing passes for it; `qfilter remove` takes them away.
    """
    loaded = load(policy)
    write_diagnostics(loaded.warnings)
    plan = prepare(loaded, install=not no_install, backend=backend, engine=engine)
    lines = form == "line" or (form == "auto" and sys.stdout.isatty())
    outputs = _outputs(form, lines, events, captures)
    place = default_path() if control is None else Path(control)
    service = Service(
        plan, outputs, engine=engine, keep_rules=keep_rules, compare_every=compare, say=_say, control=place
    )
    try:
        with _on_signals(_handlers(service, outputs)), closing(outputs), service:
            _say_start(service, lines)
            service.wait()
    finally:
        if service.queues:
            _tell_end(service, outputs, lines)


def _handlers(service: Service, outputs: Outputs) -> Handlers:
    def again() -> None:
        outputs.reopen()
        service.reload_soon()

    return {SIGTERM: service.stop, SIGINT: service.stop, SIGHUP: again, SIGUSR1: service.repair}


def _outputs(form: str, lines: bool, events: str | None, captures: str) -> Outputs:
    outputs = Outputs()
    try:
        if form != "none":
            outputs.to_stdout(json=not lines, style=style_on(console()))
        if events is not None:
            outputs.to_file(events)
        outputs.captures_in(captures)
    except OSError:
        outputs.close()
        raise
    return outputs


def _say_start(service: Service, lines: bool) -> None:
    """In lines the event tells the rest."""
    _say(f"serving {service.plan.policy.path if lines else in_force(service.in_force)}")
    if service.plan.kernel is None and service.plan.mark_mask:
        _say("this policy rejects: without the chains of `qfilter install`, what it rejects is dropped")
    for warning in service.warnings:
        _say(warning)
    try:
        tell_ready()
    except OSError as error:
        _say(f"systemd was not told that this serves: {error}")


def _tell_end(service: Service, outputs: Outputs, lines: bool) -> None:
    outcome = outputs.outcome
    lost = [text for queue in service.losses if (text := losses(queue))]
    if text := unwritten(outcome.lost, outcome.error):
        lost.append(text)
    style = style_on(console(stderr=not lines))
    with unhurried():
        click.echo(render(service.report(), style, lost), nl=False, err=not lines)
    if service.failed and service.plan.kernel is not None:
        _say("serving failed: the kernel rules stay and no_listener has its outcome; `qfilter remove` takes them away")


def _say(text: str) -> None:
    console(stderr=True).print(f"qfilter: {text}", markup=False)

"""`qfilter run`: a policy in force."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.markup import escape

from qfilter.cli.install import backend_option
from qfilter.cli.output import COLOURS, console, write_diagnostics, write_report
from qfilter.daemon import Service, prepare
from qfilter.errors import UnsupportedError
from qfilter.events.line import Style, plain
from qfilter.events.outputs import Outputs
from qfilter.events.writer import Outcome
from qfilter.model.plan import Plan
from qfilter.model.policy import Backend
from qfilter.model.verdict import Kind
from qfilter.policy.load import load


@click.command("run", epilog="Example: sudo qfilter run rules/gateway.yaml --events /var/log/qfilter.json")
@click.argument("policy", type=click.Path())
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
@backend_option
@click.pass_context
def command(
    context: click.Context,
    policy: str,
    no_install: bool,
    keep_rules: bool,
    events: str | None,
    captures: str,
    form: str,
    backend: Backend | None,
) -> None:
    """Put POLICY in force: check it, run its tests, bind its queues, install the kernel rules, judge until SIGTERM.

    At the end, which Ctrl-C brings about too, the kernel rules are removed, then the queues are let go, and the table
    of rules is printed. SIGHUP opens the events file anew.
    """
    loaded = load(policy)
    write_diagnostics(loaded.warnings)
    plan = prepare(loaded, install=not no_install, backend=backend)
    lines = form == "line" or (form == "auto" and sys.stdout.isatty())
    outputs = _outputs(form, lines, events, captures)
    service = Service(plan, outputs, keep_rules=keep_rules)
    try:
        with _signals(service, outputs), service:
            _say(_in_force(plan, service))
            service.wait()
    finally:
        outcome = outputs.close()
    write_report(service.report(), console(stderr=not lines))
    _say_losses(outcome, service)
    context.exit(0)


@contextmanager
def _signals(service: Service, outputs: Outputs) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        service.stop()

    def reopen(_number: int, _frame: FrameType | None) -> None:
        outputs.reopen()

    wanted = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reopen}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outputs(form: str, lines: bool, events: str | None, captures: str) -> Outputs:
    outputs = Outputs()
    try:
        if form != "none":
            outputs.to_stdout(json=not lines, style=_style())
        if events is not None:
            outputs.to_file(events)
        outputs.captures_in(captures)
    except OSError as error:
        outputs.close()
        raise UnsupportedError(f"{error.filename}: {error.strerror}: expected a place to write to") from None
    return outputs


def _style() -> Style:
    """Colours by name where there is a terminal that takes them."""
    out = console()
    if not out.is_terminal or out.no_color:
        return plain
    looks = {kind.value: colour for kind, colour in COLOURS.items()} | {"failure": "bold red", "dim": "dim"}

    def style(text: str, name: str) -> str:
        with out.capture() as captured:
            out.print(escape(text), style=looks.get(name, "bold"), end="", markup=False)
        return captured.get()

    return style


def _in_force(plan: Plan, service: Service) -> str:
    defaults = ", ".join(f"{hook} {default.decision}" for hook, default in plan.policy.defaults.items())
    queues = ", ".join(str(queue.number) for queue in service.queues)
    rules = "kernel rules of your own" if plan.kernel is None else f"kernel rules by {plan.kernel.backend}"
    open_causes = [cause for cause, kind in plan.policy.on_failure.items() if kind is Kind.ACCEPT]
    failures = f"accepts on {', '.join(open_causes)}" if open_causes else "every failure drops"
    return f"serving {plan.policy.path}: queue {queues}, {rules}, default {defaults}, {failures}"


def _say_losses(outcome: Outcome, service: Service) -> None:
    if outcome.lost:
        _say(f"{outcome.lost} events or captured packets were lost" + (f": {outcome.error}" if outcome.error else ""))
    for queue in service.queues:
        if queue.counters.lost:
            _say(f"queue {queue.number}: {queue.counters.lost} packets found the socket full")
        for cause, count in sorted(queue.counters.failures.items()):
            _say(f"queue {queue.number}: {count} packets decided by {cause}: {queue.counters.last_failure}")


def _say(text: str) -> None:
    console(stderr=True).print(f"qfilter: {text}", markup=False)

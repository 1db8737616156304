"""`qfilter replay`: recorded packets through a policy, without root."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from qfilter.cli.engines import engine_option
from qfilter.cli.output import console, report_error, style_on, warn
from qfilter.cli.packets import check_interfaces, hook_options, where
from qfilter.cli.replayed import Judged, ManyAtOnce, OneByOne, RecordedTime, View
from qfilter.compiler.reads import looks_at
from qfilter.compiler.walk import rules
from qfilter.daemon import EngineName, engine_maker
from qfilter.engine.clock import Clock
from qfilter.engine.native import NativeEngine
from qfilter.errors import CaptureError
from qfilter.events.table import render as render_table
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.policy import Policy
from qfilter.policy.load import load
from qfilter.queues.captures import read_capture


@click.command("replay", epilog="Example: qfilter replay rules/gateway.yaml traffic.pcap --hook forward --json")
@click.argument("policy", type=click.Path(readable=False))
@click.argument("capture", type=click.Path(readable=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a packet, and nothing else on standard output.")
@hook_options
@engine_option
@click.pass_context
def command(
    context: click.Context,
    policy: str,
    capture: str,
    as_json: bool,
    hook: Hook | None,
    iif: str | None,
    oif: str | None,
    engine: EngineName,
) -> None:
    """Judge every packet of CAPTURE (pcap or pcapng, also gzip) by POLICY; limits and timeouts run on its clock."""
    loaded = load(policy)
    time = RecordedTime()
    judge = engine_maker(engine, loaded)(Clock(monotonic=time.now))
    seen_at = where(loaded, hook)
    check_interfaces(seen_at, iif, oif)
    if loaded.queue.exempt:
        warn(f"exempt packets ({', '.join(loaded.queue.exempt)}) are judged here all the same")
    view = View(
        policy=loaded,
        hook=seen_at,
        iif=iif,
        oif=oif,
        as_json=as_json,
        style=style_on(console()),
        nameless=_Nameless(capture, _interfaces(loaded, seen_at) if iif is None and oif is None else ()),
    )
    damage: CaptureError | None = None
    with _progress(capture) as progress:
        judged: Judged = OneByOne(judge, view, time)
        if isinstance(judge, NativeEngine):
            judged = ManyAtOnce(judge, view, time, progress)
        try:
            for captured in read_capture(capture, judged.batches):
                judged.packet(captured)
                progress(captured.n, len(captured.data or b"") + _RECORD)
        except CaptureError as error:
            damage = error
    code = report_error(damage) if damage else 0
    report = judge.report()
    if code and not report.total.packets:
        context.exit(code)
    passed_over = judged.without_ip
    without = [f"frames without IPv4 or IPv6, passed over: {passed_over:,}"] if passed_over else []
    table = render_table(report, style_on(console(stderr=as_json)), without)
    click.echo(table, nl=False, err=as_json)
    context.exit(code)


def _interfaces(policy: Policy, hook: Hook) -> tuple[str, ...]:
    """The fields for interfaces that rules of a hook look at."""
    names = {name for rule, hooks in rules(policy) if hook in hooks for name in looks_at(rule)}
    return tuple(name for name in ("iifname", "oifname") if name in names and hook in FIELDS[name].hooks)


class _Nameless:
    """Warns once that a capture names no interfaces, where rules look at them."""

    def __init__(self, capture: str, fields: Sequence[str]) -> None:
        self._capture = capture
        self._fields = fields

    def __call__(self) -> None:
        if self._fields:
            names = " and ".join(self._fields)
            warn(f"{self._capture} names no interfaces, but rules look at {names}: expected --iif or --oif")
            self._fields = ()


@contextmanager
def _progress(path: str) -> Iterator[Callable[[int, int], None]]:
    """A bar after the first second, where standard error is a terminal and standard output does not scroll on it.

    It is told how many frames there were up to now, and how many bytes of the capture more.
    """
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield lambda _frames, _size: None
        return
    columns = (TextColumn("replay"), BarColumn(), TextColumn("{task.fields[n]} packets"), TimeElapsedColumn())
    out = console(stderr=True)
    # rich would write the rows where the bar is.
    with Progress(*columns, console=out, transient=True, auto_refresh=False, redirect_stdout=False) as bar:
        task = bar.add_task("replay", total=_size(path), visible=False, n=0)
        due = monotonic() + _PATIENCE

        def advance(frames: int, size: int) -> None:
            nonlocal due
            bar.advance(task, size)
            if monotonic() >= due:
                bar.update(task, visible=True, n=frames, refresh=True)
                due = monotonic() + _REFRESH

        yield advance


def _size(path: str) -> int | None:
    """Bytes of a capture; None when it is compressed and nobody knows how far it goes."""
    return None if path.endswith(".gz") else Path(path).stat().st_size


_RECORD, _REFRESH, _PATIENCE = 16, 0.1, 1.0
"""Bytes of a record's header, near enough for a bar; seconds between two looks of it; seconds without a bar."""

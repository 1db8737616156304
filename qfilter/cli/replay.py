"""`qfilter replay`: recorded packets through a policy, without root."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from qfilter.cli.engines import engine_option
from qfilter.cli.output import console, report_error, style_on, warn
from qfilter.cli.packets import hook_options, to_packet, where
from qfilter.compiler.reads import looks_at
from qfilter.compiler.walk import rules
from qfilter.daemon import EngineName, engine_maker
from qfilter.engine.clock import Clock
from qfilter.errors import CaptureError
from qfilter.events.line import render as render_line
from qfilter.events.record import verdict_event
from qfilter.events.table import render as render_table
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.policy import Policy
from qfilter.model.verdict import Verdict
from qfilter.policy.load import load
from qfilter.queues.captures import CapturedPacket, read_capture


@click.command("replay", epilog="Example: qfilter replay rules/gateway.yaml traffic.pcap --hook forward --json")
@click.argument("policy", type=click.Path())
@click.argument("capture", type=click.Path())
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
    time = _RecordedTime()
    judge = engine_maker(engine, loaded)(Clock(monotonic=time.now))
    seen_at = where(loaded, hook)
    style = style_on(console())
    if loaded.queue.exempt:
        warn(f"exempt packets ({', '.join(loaded.queue.exempt)}) are judged here all the same")
    interfaces = _interfaces(loaded, seen_at) if iif is None and oif is None else ()
    without_ip, code = 0, 0
    try:
        for captured in _with_progress(capture, read_capture(capture)):
            time.set(captured.timestamp_ns)
            if captured.data is None:
                without_ip += 1
                continue
            if interfaces and captured.interface is None:
                names = " and ".join(interfaces)
                warn(f"{capture} names no interfaces, but rules look at {names}: expected --iif or --oif")
                interfaces = ()
            packet = to_packet(captured, seen_at, iif, oif)
            verdict = judge.decide(packet)
            if as_json:
                row = json.dumps(_row(captured, verdict))
            else:
                ends = judge.summary(packet)
                what = verdict_event(verdict, packet, ends, policy=loaded.digest, now=0.0)
                row = f"{captured.n:>6}  {render_line(what, style)}"
            sys.stdout.write(f"{row}\n")
    except CaptureError as error:
        code = report_error(error)
    report = judge.report()
    if code and not report.total.packets:
        context.exit(code)
    without = [f"frames without IPv4 or IPv6, passed over: {without_ip:,}"] if without_ip else []
    table = render_table(report, style_on(console(stderr=as_json)), without)
    click.echo(table, nl=False, err=as_json)
    context.exit(code)


def _interfaces(policy: Policy, hook: Hook) -> tuple[str, ...]:
    """The fields for interfaces that rules of a hook look at."""
    names = {name for rule, hooks in rules(policy) if hook in hooks for name in looks_at(rule)}
    return tuple(name for name in ("iifname", "oifname") if name in names and hook in FIELDS[name].hooks)


def _with_progress(path: str, packets: Iterator[CapturedPacket]) -> Iterator[CapturedPacket]:
    """A bar after the first second, where standard error is a terminal and standard output does not scroll on it."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield from packets
        return
    columns = (TextColumn("replay"), BarColumn(), TextColumn("{task.fields[n]} packets"), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("replay", total=_size(path), visible=False, n=0)
        for packet in packets:
            yield packet
            progress.advance(task, len(packet.data or b"") + _RECORD)
            if packet.n % _REFRESH == 0:
                late = (progress.tasks[0].elapsed or 0.0) > _PATIENCE
                progress.update(task, visible=late, n=packet.n, refresh=late)


def _size(path: str) -> int | None:
    """Bytes of a capture; None when it is compressed and nobody knows how far it goes."""
    return None if path.endswith(".gz") else Path(path).stat().st_size


_RECORD, _REFRESH, _PATIENCE = 16, 64, 1.0
"""Bytes of a record's header, near enough for a bar; packets between two looks at the time; seconds without a bar."""


class _RecordedTime:
    """The capture's clock: it stands still between packets and never runs back."""

    def __init__(self) -> None:
        self._now = 0

    def set(self, timestamp_ns: int | None) -> None:
        self._now = max(self._now, timestamp_ns or 0)

    def now(self) -> int:
        return self._now


def _row(captured: CapturedPacket, verdict: Verdict) -> dict[str, object]:
    return {
        "n": captured.n,
        "timestamp": _time(captured.timestamp_ns),
        "verdict": str(verdict.decision),
        "reason": verdict.reason.value,
        "detail": verdict.detail,
        "rule": verdict.rule,
        "at": None if verdict.at is None else str(verdict.at),
        "length": captured.wire_length,
    }


def _time(timestamp_ns: int | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond."""
    if timestamp_ns is None:
        return None
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")

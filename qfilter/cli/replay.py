"""`qfilter replay`: recorded packets through a policy, without root."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from qfilter.cli.output import console, report_error, write_report
from qfilter.cli.packets import hook_options, to_packet
from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.summary import summary
from qfilter.errors import CaptureError
from qfilter.events.line import render
from qfilter.events.record import verdict_event
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import Verdict
from qfilter.policy.load import load
from qfilter.queues.captures import CapturedPacket, read_capture


@click.command("replay", epilog="Example: qfilter replay rules/gateway.yaml traffic.pcap --hook forward --json")
@click.argument("policy", type=click.Path())
@click.argument("capture", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a packet, and nothing else on standard output.")
@hook_options
@click.pass_context
def command(
    context: click.Context,
    policy: str,
    capture: str,
    as_json: bool,
    hook: Hook | None,
    iif: str | None,
    oif: str | None,
) -> None:
    """Judge every packet of CAPTURE (pcap or pcapng, also gzip) by POLICY; limits and timeouts run on its clock."""
    loaded = load(policy)
    time = _RecordedTime()
    engine = ReferenceEngine(loaded, Clock(monotonic=time.now))
    where = hook or next(iter(loaded.defaults))
    without_ip, code = 0, 0
    try:
        for captured in _with_progress(capture, read_capture(capture)):
            time.set(captured.timestamp_ns)
            if captured.data is None:
                without_ip += 1
                continue
            packet = to_packet(captured, where, iif, oif)
            verdict = engine.decide(packet)
            print(
                json.dumps(_row(captured, verdict)) if as_json else f"{captured.n:>6} {_line(captured.n, engine, packet, verdict)}"
            )
    except CaptureError as error:
        code = report_error(error)
    out = console(stderr=as_json)
    write_report(engine.report(), out)
    if without_ip:
        out.print(f"{without_ip} frames without IPv4 or IPv6 were passed over")
    context.exit(code)


def _line(n: int, engine: ReferenceEngine, packet: Packet, verdict: Verdict) -> str:
    what = verdict_event(verdict, packet, summary(engine, packet), policy=engine.policy.digest, now=0.0)
    return f"{n:>6}  {render(what)}"


def _with_progress(path: str, packets: Iterator[CapturedPacket]) -> Iterator[CapturedPacket]:
    """A bar after the first second, where standard error is a terminal and standard output does not scroll on it."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield from packets
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("replay", total=Path(path).stat().st_size, visible=False)
        for packet in packets:
            yield packet
            progress.advance(task, len(packet.data or b"") + _RECORD)
            if packet.n % _REFRESH == 0:
                progress.update(task, visible=(progress.tasks[0].elapsed or 0.0) > 1.0, refresh=True)


_RECORD, _REFRESH = 16, 64
"""Bytes of a record's header in a pcap, near enough for a bar; packets between two looks at the time."""


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

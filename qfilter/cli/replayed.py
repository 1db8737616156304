"""The rows of `qfilter replay`: its packets judged one by one, or by the native engine many at a time."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from qfilter.cli.packets import to_packet
from qfilter.engine.base import Engine
from qfilter.engine.native import NativeEngine, NativeReplay
from qfilter.events.line import ENDS, Style
from qfilter.events.line import render as render_line
from qfilter.events.record import verdict_event
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Verdict
from qfilter.queues.capture_source import Batches
from qfilter.queues.captures import CapturedPacket

_LATEST = 2**62
"""In the year 2116: a signed number of 64 bits has room for time-outs behind it."""


class RecordedTime:
    """The capture's clock, in nanoseconds: it stands still between packets and never runs back."""

    def __init__(self) -> None:
        self._now = 0

    def set(self, timestamp_ns: int | None) -> None:
        """The time of a packet."""
        self._now = min(max(self._now, timestamp_ns or 0), _LATEST)

    def now(self) -> int:
        """The latest time of the packets so far."""
        return self._now


@dataclass(frozen=True, kw_only=True)
class View:
    """Where packets are seen, and how their rows look."""

    policy: Policy
    hook: Hook
    iif: str | None
    oif: str | None
    as_json: bool
    style: Style
    nameless: Callable[[], None]
    """Called for packets of a capture that names no interface."""

    def packet(self, captured: CapturedPacket) -> Packet:
        """As the hook sees it."""
        if captured.interface is None:
            self.nameless()
        return to_packet(captured, self.hook, self.iif, self.oif)

    def line(
        self, number: object, packet: Packet, verdict: Verdict, ends: Mapping[str, object], **other: object
    ) -> str:
        """A row for people."""
        event = verdict_event(verdict, packet, ends, policy=self.policy.digest, now=0.0)
        return f"{number:>6}  {render_line({**event, **other}, self.style)}"


class Judged(Protocol):
    """A capture's packets on their way to standard output."""

    @property
    def batches(self) -> Batches | None:
        """Takes most of them at once."""

    @property
    def without_ip(self) -> int:
        """Frames that were passed over."""

    def packet(self, captured: CapturedPacket) -> None:
        """Judge one, and write its row."""


class OneByOne:
    """Judged by call, rows by Python."""

    def __init__(self, engine: Engine, view: View, time: RecordedTime) -> None:
        self._engine = engine
        self._view = view
        self._time = time
        self.batches = None
        self.without_ip = 0

    def packet(self, captured: CapturedPacket) -> None:
        """See Judged."""
        self._time.set(captured.timestamp_ns)
        if captured.data is None:
            self.without_ip += 1
            return
        packet = self._view.packet(captured)
        verdict = self._engine.decide(packet)
        if self._view.as_json:
            row = json.dumps(_row(captured.n, _time(captured.timestamp_ns), verdict, captured.wire_length))
        else:
            row = self._view.line(captured.n, packet, verdict, self._engine.summary(packet))
        sys.stdout.write(f"{row}\n")


class ManyAtOnce:
    """Judged and written by the native engine: Python tells what a kind of rows looks like, once."""

    def __init__(
        self, engine: NativeEngine, view: View, time: RecordedTime, progress: Callable[[int, int], None]
    ) -> None:
        """`progress` hears how many frames there were up to now, and how many bytes of the capture more."""
        self.hook = view.hook
        self.batches = self
        self._view = view
        self._time = time
        self._progress = progress
        self._frames = 0
        self._core = NativeReplay(engine, self, None if view.as_json else ENDS).core

    @property
    def without_ip(self) -> int:
        """See Judged."""
        return self._core.without_ip

    def packet(self, captured: CapturedPacket) -> None:
        """See Judged."""
        self._frames = captured.n
        packet = (captured.data, captured.wire_length, captured.timestamp_ns, captured.interface)
        self._write(self._core.packet(captured.n, *packet))

    def pcap(self, block: bytes, at: int, *, big: bool, unit: int, link_type: int) -> tuple[int, int]:
        """See Batches."""
        return self._batch(*self._core.pcap(block, at, big, unit, link_type))

    def pcapng(self, block: bytes, at: int, *, big: bool, interfaces: list[Any]) -> tuple[int, int]:
        """See Batches."""
        return self._batch(*self._core.pcapng(block, at, big, interfaces))

    def _batch(self, frames: int, size: int, rows: str) -> tuple[int, int]:
        self._write(rows)
        self._frames += frames
        self._progress(self._frames, size)
        return frames, size

    def _write(self, rows: str) -> None:
        self.tell(self._core.now)
        sys.stdout.write(rows)

    def tell(self, now: int) -> None:
        """See Rows."""
        self._time.set(now)

    def names(self, interface: str | None) -> tuple[str | None, str | None]:
        """See Rows."""
        some = CapturedPacket(n=0, data=b"", wire_length=0, timestamp_ns=None, interface=interface)
        packet = self._view.packet(some)
        return packet.iifname, packet.oifname

    def pieces(self, verdict: Verdict, packet: Packet, protocol: int | None) -> tuple[str, str, str, str]:
        """See Rows. What the core fills in is found by marks that nobody can guess and no policy has."""
        number, time, source, destination = (secrets.token_hex(32) for _ in range(4))
        if self._view.as_json:
            row = json.dumps(_row(number, time, verdict, source))
            return _between(row, [json.dumps(mark) for mark in (number, time, source)])
        time = time[:_CLOCK]
        ends = {"saddr": source, "daddr": destination, "protocol": protocol}
        row = self._view.line(number, packet, verdict, ends, timestamp=f"{'':11}{time}")
        return _between(row, [number, time, f"{source} -> {destination}"])


_CLOCK = len("12:34:56.789012")


def _between(row: str, marks: Sequence[str]) -> tuple[str, str, str, str]:
    pieces = []
    for mark in marks:
        before, _, row = row.partition(mark)
        pieces.append(before)
    first, second, third = pieces
    return first, second, third, row


def _row(number: object, time: object, verdict: Verdict, length: object) -> dict[str, object]:
    return {
        "n": number,
        "timestamp": time,
        "verdict": str(verdict.decision),
        "reason": verdict.reason.value,
        "detail": verdict.detail,
        "rule": verdict.rule,
        "at": None if verdict.at is None else str(verdict.at),
        "length": length,
    }


def _time(timestamp_ns: int | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond."""
    if timestamp_ns is None:
        return None
    seconds, rest = divmod(timestamp_ns, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")

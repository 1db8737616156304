"""Where a service's events and captured packets go: any number of writers, or none."""

from __future__ import annotations

import time
from os import PathLike

from qfilter.events.captures import CaptureSink, Seen
from qfilter.events.line import Style, plain, render
from qfilter.events.record import Event, EventType, encode, event
from qfilter.events.sinks import FileSink, Render, StreamSink
from qfilter.events.writer import Outcome, Sink, Writer
from qfilter.model.packet import Packet
from qfilter.model.verdict import Captured, Verdict


class Outputs:
    """Writers of events and of captures. Nothing of it ever waits for whoever reads."""

    def __init__(self) -> None:
        self._events: list[Writer[Event]] = []
        self._captures: Writer[Seen] | None = None
        self._final: Outcome | None = None

    def to_stdout(self, *, json: bool, style: Style = plain) -> None:
        """Events to standard output, as JSON or as a readable line each."""
        self.to_sink(StreamSink(1, encode if json else _lines(style)))

    def to_file(self, path: str | PathLike[str]) -> None:
        """Events as JSON to the end of a file. Raises OSError when it cannot be opened."""
        self.to_sink(FileSink(path, encode))

    def to_sink(self, sink: Sink[Event]) -> None:
        """Events to a sink of the caller's own."""
        self._events.append(Writer(sink, lost=_lost))

    def captures_in(self, folder: str | PathLike[str]) -> None:
        """Packets of the `capture` action to files of this folder. Raises OSError when it cannot be opened."""
        self._captures = Writer(CaptureSink(folder), name="qfilter-captures")

    def put(self, what: Event) -> None:
        """One event to every writer."""
        for writer in self._events:
            writer.put(what)

    def miss(self, count: int) -> None:
        """So many events were lost on their way here: every writer tells."""
        for writer in self._events:
            writer.miss(count)

    def capture(self, packet: Packet, verdict: Verdict) -> None:
        """One packet to the files that its verdict names."""
        if self._captures is not None and any(isinstance(effect, Captured) for effect in verdict.effects):
            self._captures.put(Seen(packet, verdict, time.time()))

    def reopen(self) -> None:
        """Open the files anew, after they were moved away. Safe in a signal handler."""
        for writer in self._writers():
            writer.reopen()

    @property
    def outcome(self) -> Outcome:
        """The events and packets of all writers: so far, or in the end."""
        return self._final or _sum([writer.outcome for writer in self._writers()])

    def close(self) -> None:
        """Write what waits, within the writers' deadline; the rest is lost. A second call does nothing."""
        if self._final is None:
            self._final = _sum([writer.close() for writer in self._writers()])

    def _writers(self) -> tuple[Writer[Event] | Writer[Seen], ...]:
        return (*self._events, *(() if self._captures is None else (self._captures,)))


def _lines(style: Style) -> Render[Event]:
    return lambda what: render(what, style).encode("utf-8", "backslashreplace") + b"\n"


def _lost(count: int) -> Event:
    return event(EventType.LOST, time.time(), {"count": count})


def _sum(outcomes: list[Outcome]) -> Outcome:
    return Outcome(
        written=sum(outcome.written for outcome in outcomes),
        lost=sum(outcome.lost for outcome in outcomes),
        error=next((outcome.error for outcome in outcomes if outcome.error), ""),
    )

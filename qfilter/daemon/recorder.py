"""What becomes an event: verdicts that are worth it, failures, and what happens to the service."""

from __future__ import annotations

import time
from collections.abc import Mapping

from qfilter.engine.base import Engine
from qfilter.engine.foreign import attempt
from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, event, failure_event, verdict_event, worth_recording
from qfilter.model.packet import Packet
from qfilter.model.verdict import Verdict


class Recorder:
    """One service's events. Nothing of it waits for whoever reads them."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._unrecorded = self._untold = 0

    @property
    def lost(self) -> int:
        """Events that could not be made or written."""
        return self._outputs.outcome.lost + self._unrecorded

    @property
    def error(self) -> str:
        """Why the last one could not be written; empty where all could."""
        return self._outputs.outcome.error

    def miss(self, count: int) -> None:
        """So many events never came here, or could not be made."""
        self._unrecorded += count
        self._untold += count

    def tell_missed(self) -> None:
        """Of those that were missed since the last call, one event."""
        if self._untold:
            self._outputs.miss(self._untold)
            self._untold = 0

    def verdict(self, engine: Engine, packet: Packet | None, verdict: Verdict) -> None:
        """One packet's end, or a failure of the queue itself; of a message that was cut no packet is known."""
        if attempt(lambda: self._verdict(engine, packet, verdict)) is not None:
            # The verdict stands: a drop that cannot be told is not an error to accept.
            self.miss(1)

    def note(self, kind: EventType, policy: str, values: Mapping[str, object]) -> None:
        """Something else than a packet; `policy` is the digest of the one in force."""
        self._outputs.put(event(kind, time.time(), {"policy": policy, **values}))

    def _verdict(self, engine: Engine, packet: Packet | None, verdict: Verdict) -> None:
        policy = engine.policy.digest
        if packet is None:
            self._outputs.put(failure_event(verdict, policy=policy, now=time.time()))
            return
        if worth_recording(verdict):
            ends = engine.summary(packet)
            self._outputs.put(verdict_event(verdict, packet, ends, policy=policy, now=time.time()))
        self._outputs.capture(packet, verdict)

"""Time as the engine sees it; injected, so that tests and replays decide what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks that must not be mixed: one that never jumps, and the one on the wall."""

    monotonic: Callable[[], int] = time.monotonic_ns
    """Nanoseconds; limits and timeouts count on it."""
    wall: Callable[[], float] = time.time
    """Seconds since the epoch; only `hour` and `weekday` look at it, and only for packets without a timestamp."""
    timezone: tzinfo | None = None
    """None is this machine's."""

    def local(self, timestamp: float | None) -> datetime:
        """The local time of a packet's timestamp, or of now."""
        return datetime.fromtimestamp(self.wall() if timestamp is None else timestamp, self.timezone)

"""Token buckets, in whole numbers so that every engine counts alike."""

from __future__ import annotations

from collections.abc import Hashable

from qfilter.engine.expiring import Expiring
from qfilter.model.rule import Limit

MAX_BUCKETS = 65_536
"""Buckets of one `per:` limit."""

_SECOND = 1_000_000_000


class Buckets:
    """The buckets of one limit, by the values of its `per` fields.

    All that is known of a bucket is when it will be full again; a full one is the same as none. A flood of forged
    addresses must not buy anybody a fresh burst: only full buckets make room for others. Where there is no room the
    packet counts as over the limit.
    """

    def __init__(self, limit: Limit, size: int = MAX_BUCKETS) -> None:
        self.limit = limit
        # Instants are nanoseconds times rate: a token is back after `seconds` of them, and nothing is ever rounded.
        self._rate = limit.rate
        self._token = limit.seconds * _SECOND
        self._burst = limit.burst * self._token
        self._size = size
        self._full_at = Expiring()

    def take(self, key: Hashable, now: int) -> bool:
        """Take one token at `now` (monotonic nanoseconds); False when there is none."""
        here = now * self._rate
        full_at = max(here, self._full_at.due(key) or here) + self._token
        if full_at - here > self._burst:
            return False
        if key not in self._full_at and len(self._full_at) >= self._size:
            self._full_at.purge(here)
            if len(self._full_at) >= self._size:
                return False
        self._full_at.put(key, full_at)
        return True

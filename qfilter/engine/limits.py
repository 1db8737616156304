"""Token buckets, in whole numbers so that every engine counts alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from qfilter.model.rule import Limit

MAX_BUCKETS = 65_536
"""Buckets of one `per:` limit."""

_SECOND = 1_000_000_000


@dataclass(slots=True)
class _Bucket:
    credit: int
    """Nanoseconds times rate: a token costs `seconds` of them at rate 1."""
    since: int


class Buckets:
    """The buckets of one limit, by the values of its `per` fields.

    A flood of forged addresses must not buy anybody a fresh burst: only a bucket that has filled up again, which is the
    same as none, makes room for another. Where there is no room the packet counts as over the limit.
    """

    def __init__(self, limit: Limit, size: int = MAX_BUCKETS) -> None:
        self._rate = limit.rate
        self._cost = limit.seconds * _SECOND
        self._full = limit.burst * self._cost
        self._size = size
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def take(self, key: Hashable, now: int) -> bool:
        """Take one token at `now` (monotonic nanoseconds); False when there is none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._size and not self._make_room(now):
                return False
            bucket = self._buckets[key] = _Bucket(self._full, now)
        self._buckets.move_to_end(key)
        bucket.credit = self._refilled(bucket, now)
        bucket.since = now
        if bucket.credit < self._cost:
            return False
        bucket.credit -= self._cost
        return True

    def _refilled(self, bucket: _Bucket, now: int) -> int:
        return min(self._full, bucket.credit + max(0, now - bucket.since) * self._rate)

    def _make_room(self, now: int) -> bool:
        oldest = next(iter(self._buckets))
        if self._refilled(self._buckets[oldest], now) < self._full:
            return False
        del self._buckets[oldest]
        return True

"""Token buckets: exact, bounded, and never more generous because somebody floods or a clock is wrong."""

from __future__ import annotations

from qfilter.engine.limits import Buckets
from qfilter.model.rule import Limit

SECOND = 1_000_000_000


def test_a_third_of_a_second_is_not_quite_a_token() -> None:
    buckets = Buckets(Limit(rate=3, seconds=1, burst=1))
    assert buckets.take((), 0)
    assert not buckets.take((), 333_333_333)
    assert buckets.take((), 333_333_334)


def test_nothing_is_lost_over_a_long_time() -> None:
    buckets = Buckets(Limit(rate=7, seconds=60, burst=1))
    taken = sum(buckets.take((), now) for now in range(0, 600 * SECOND, SECOND // 100))
    assert taken == 70


def test_a_refused_packet_costs_nothing() -> None:
    buckets = Buckets(Limit(rate=1, seconds=1, burst=1))
    assert [buckets.take((), now) for now in (0, 1, 2, SECOND - 1, SECOND)] == [True, False, False, False, True]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(Limit(rate=1, seconds=1, burst=2))
    assert [buckets.take((), now) for now in (10 * SECOND, 10 * SECOND, 0, 10 * SECOND)] == [True, True, False, False]


def test_a_flood_of_keys_buys_nobody_a_fresh_burst() -> None:
    buckets = Buckets(Limit(rate=1, seconds=1, burst=2), size=3)
    assert [buckets.take(("victim",), 0) for _ in range(3)] == [True, True, False]
    assert [buckets.take((key,), 0) for key in range(5)] == [True, True, False, False, False]
    assert not buckets.take(("victim",), 0)


def test_one_empty_bucket_does_not_keep_full_ones_in_their_place() -> None:
    """The one that was used longest ago is not the one that is full first."""
    buckets = Buckets(Limit(rate=1, seconds=60, burst=10), size=2)
    assert sum(buckets.take(("greedy",), 0) for _ in range(20)) == 10
    assert buckets.take(("modest",), 1)
    assert not buckets.take(("new",), 2)
    assert buckets.take(("new",), 61 * SECOND)

"""Counting."""

from __future__ import annotations

from qfilter.model.verdict import Kind, Reason
from qfilter.queues.base import QueueCounters


def test_each_kind_of_verdict_has_its_counter() -> None:
    counters = QueueCounters()
    for times, kind in enumerate(Kind, start=1):
        for _ in range(times):
            counters.count(kind)
    seen = (counters.accepted, counters.dropped, counters.rejected, counters.requeued, counters.repeated)
    assert seen == (1, 2, 3, 4, 5)


def test_failures_are_counted_by_cause_and_the_last_is_told() -> None:
    counters = QueueCounters()
    counters.fail(Reason.ERROR, "KeyError: 'a'")
    counters.fail(Reason.TRUNCATED, "message longer than 4096 bytes")
    counters.fail(Reason.ERROR, "KeyError: 'b'")
    assert counters.failures == {Reason.ERROR: 2, Reason.TRUNCATED: 1}
    assert counters.last_failure == "KeyError: 'b'"

"""The writer against sinks that stall, fail and come back. Each sink is led by the test, none by time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.events import writer as events_writer
from qfilter.events.writer import Outcome, Writer
from tests.lab.process import wait_until


class Disk:
    """A sink that writes what the test lets it write.

    `free` lets that many calls through; each call says what becomes of it by `fails`.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.fails: Callable[[str], bool] = lambda item: False
        self.closed = 0
        self.entered = threading.Semaphore(0)
        self._room = threading.Semaphore(0)
        self._cancelled = False

    def free(self, calls: int = 1_000) -> None:
        self._room.release(calls)

    def write(self, item: str) -> None:
        self.entered.release()
        self._room.acquire()
        if self._cancelled:
            raise OSError("cancelled")
        if self.fails(item):
            raise OSError(f"no room for {item}")
        self.log.append(item)

    def reopen(self) -> None:
        self.log.append("reopened")

    def cancel(self) -> None:
        self._cancelled = True
        self.free()

    def close(self) -> None:
        self.closed += 1


def lost(count: int) -> str:
    return f"lost {count}"


def full(disk: Disk, items: str, capacity: int) -> Writer[str]:
    """The first item is being written, and waits; the queue behind it holds `capacity` of the others."""
    writer = Writer(disk, capacity=capacity, lost=lost)
    writer.put(items[0])
    disk.entered.acquire()
    for item in items[1:]:
        writer.put(item)
    return writer


def test_items_come_in_their_order() -> None:
    disk = Disk()
    writer = Writer(disk, lost=lost)
    disk.free()
    for item in "abc":
        writer.put(item)
    assert writer.close(timeout=60) == Outcome(written=3, lost=0, error="")
    assert (disk.log, disk.closed) == (["a", "b", "c"], 1)


def test_a_sink_that_stalls_costs_the_newest_and_says_so_in_their_place() -> None:
    disk = Disk()
    writer = full(disk, "abcdef", capacity=2)
    assert writer.outcome == Outcome(written=0, lost=3, error="")
    disk.free(2)
    for _ in "bc":
        disk.entered.acquire()  # `b` is written, `c` waits: the queue has room
    writer.put("g")
    disk.free()
    assert writer.close(timeout=60) == Outcome(written=4, lost=3, error="")
    assert disk.log == ["a", "b", "c", "lost 3", "g"]


def test_a_loss_with_nothing_behind_it_that_is_being_told_at_the_end_is_told_once() -> None:
    disk = Disk()
    writer = full(disk, "abcd", capacity=1)
    disk.free(2)
    for _ in "ab":
        disk.entered.acquire()  # the last one is the loss, which waits
    disk.free()
    assert writer.close(timeout=60) == Outcome(written=2, lost=2, error="")
    assert disk.log == ["a", "b", "lost 2"]


def test_a_loss_with_nothing_behind_it_is_told_when_there_is_room() -> None:
    disk = Disk()
    writer = full(disk, "abcd", capacity=1)
    disk.free()
    wait_until(lambda: disk.log == ["a", "b", "lost 2"], "the loss should be told")
    writer.miss(5)
    wait_until(lambda: disk.log[3:] == ["lost 5"], "what was lost before should be told")
    assert writer.close(timeout=60) == Outcome(written=2, lost=2, error="")


def test_a_loss_is_told_again_until_the_sink_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_writer, "AGAIN", 0.01)
    disk = Disk()
    tries: list[str] = []

    def fails(item: str) -> bool:
        tries.append(item)
        return len(tries) < 4

    disk.fails = fails
    disk.free()
    writer = Writer(disk, lost=lost)
    writer.put("a")
    wait_until(lambda: disk.log == ["lost 1"], "the loss should be told")
    assert tries == ["a", "lost 1", "lost 1", "lost 1"]
    assert writer.close(timeout=60) == Outcome(written=0, lost=1, error="no room for lost 1")


def test_a_full_disk_loses_items_until_it_has_room_again() -> None:
    disk = Disk()
    disk.free()
    disk.fails = lambda item: len(disk.log) == 1 and item not in ("e", "lost 3")
    writer = Writer(disk, lost=lost)
    for item in "abcdef":
        writer.put(item)
    # after `a` nothing fits until three are lost; the loss is told before `e`
    assert writer.close(timeout=60) == Outcome(written=3, lost=3, error="no room for d")
    assert disk.log == ["a", "lost 3", "e", "f"]


def test_a_disk_that_stays_full() -> None:
    disk = Disk()
    disk.free()
    disk.fails = lambda item: True
    writer = Writer(disk, lost=lost)
    for item in "abc":
        writer.put(item)
    assert writer.close(timeout=60) == Outcome(written=0, lost=3, error="no room for lost 3")


def test_an_item_that_breaks_the_sink_costs_itself_only() -> None:
    class Fragile(Disk):
        def write(self, item: str) -> None:
            if item == "b":
                raise ZeroDivisionError
            super().write(item)

    disk = Fragile()
    disk.free()
    writer = Writer(disk)
    for item in "abc":
        writer.put(item)
    assert writer.close(timeout=60) == Outcome(written=2, lost=1, error="ZeroDivisionError")
    assert disk.log == ["a", "c"]


def test_reopening_comes_between_the_items_before_and_after() -> None:
    disk = Disk()
    disk.free()
    writer = Writer(disk)
    writer.put("a")
    writer.reopen()
    writer.put("b")
    writer.close(timeout=60)
    assert disk.log == ["a", "reopened", "b"]


def test_closing_ends_a_write_that_stalls() -> None:
    disk = Disk()
    writer = Writer(disk, lost=lost)
    for item in "abc":
        writer.put(item)
    disk.entered.acquire()
    assert writer.close(timeout=0, grace=60) == Outcome(written=0, lost=3, error="cancelled")
    assert (disk.log, disk.closed) == ([], 1)


def test_a_write_that_cannot_be_ended_is_left_behind() -> None:
    class Stuck(Disk):
        def cancel(self) -> None:
            """As a disk in the D state."""

    disk = Stuck()
    writer = Writer(disk, capacity=3)
    writer.put("a")
    disk.entered.acquire()
    for item in "bcde":
        writer.put(item)
    assert writer.close(timeout=0, grace=0) == Outcome(written=0, lost=5, error="the write never came back")
    assert disk.closed == 0, "the thread still uses it"
    disk.free()


def test_after_closing_items_are_lost_and_nothing_is_raised() -> None:
    disk = Disk()
    writer = Writer(disk, lost=lost)
    writer.close(timeout=60)
    writer.put("a")
    writer.reopen()
    assert writer.close(timeout=60) == Outcome(written=0, lost=1, error="")
    assert disk.log == []


@given(items=st.lists(st.sampled_from("abcxyz"), max_size=30), capacity=st.integers(1, 5))
def test_every_item_is_written_or_lost_and_every_loss_is_told(items: list[str], capacity: int) -> None:
    disk = Disk()
    disk.fails = lambda item: item in "xyz"
    disk.free()
    writer = Writer(disk, capacity=capacity, lost=lost)
    for item in items:
        writer.put(item)
    outcome = writer.close(timeout=60)
    told = sum(int(item.removeprefix("lost ")) for item in disk.log if item.startswith("lost "))
    written = [item for item in disk.log if not item.startswith("lost ")]
    assert (outcome.written, outcome.lost) == (len(written), told)
    assert len(written) + told == len(items)
    rest = iter(items)
    assert all(item in rest for item in written), "a subsequence, in order"

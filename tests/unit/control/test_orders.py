"""Work that a signal or a client asks for."""

from __future__ import annotations

import threading

from qfilter.control.orders import Orders
from tests.lab.process import wait_until


class Work:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.done: list[str] = []
        self.orders = Orders(self.do, name="test")

    def do(self, order: str) -> None:
        self.begun.release()
        self.go_on.acquire()
        self.done.append(order)

    def wait_for(self, *done: str) -> None:
        wait_until(lambda: self.done == list(done), f"{done} should be done")


def test_what_is_ordered_again_while_it_works_is_done_once_more() -> None:
    work = Work()
    work.orders.give("a")
    work.begun.acquire()
    for _ in range(100):
        work.orders.give("a")
    work.go_on.release(2)
    work.wait_for("a", "a")
    work.orders.close()
    work.orders.close()
    work.orders._thread.join()
    assert work.done == ["a", "a"]


def test_what_is_ordered_is_done_in_order() -> None:
    work = Work()
    for order in "abcabd":
        work.orders.give(order)
    work.go_on.release(6)
    wait_until(lambda: work.done[-1:] == ["d"], "all should be done")
    work.orders.close()
    assert sorted(set(work.done), key=work.done.index) == ["a", "b", "c", "d"]


def test_the_end_is_behind_what_was_ordered_and_waits_for_nothing() -> None:
    work = Work()
    work.orders.give("a")
    work.begun.acquire()
    work.orders.give("b")
    work.orders.close()
    assert work.done == []
    work.go_on.release(3)
    work.orders._thread.join()
    assert work.done == ["a", "b"]
    work.orders.give("c")
    assert work.done == ["a", "b", "c"], "by whoever orders it"

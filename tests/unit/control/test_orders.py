"""Work that a signal asks for."""

from __future__ import annotations

import threading

from qfilter.control.orders import Orders
from tests.lab.process import wait_until


def test_what_is_ordered_while_it_works_is_done_once_more() -> None:
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    done: list[int] = []

    def work() -> None:
        begun.release()
        go_on.acquire()
        done.append(len(done))

    orders = Orders(work, name="test")
    orders.give()
    begun.acquire()
    for _ in range(100):
        orders.give()
    go_on.release(2)
    wait_until(lambda: done == [0, 1], "it should be done twice")
    orders.close()
    orders.close()
    assert done == [0, 1]


def test_the_end_comes_before_what_waits() -> None:
    done: list[None] = []
    orders = Orders(lambda: done.append(None), name="test")
    orders.close()
    orders.give()
    assert done == []

"""The table of bound queues as the kernel prints it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qfilter.errors import UnsupportedError
from qfilter.netlink.channel import Channel
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER, CopyMode
from qfilter.netlink.queues import BoundQueue, holder, parse_row


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (
            "    3  30521    12 2 65531     4     5      218  1",
            BoundQueue(
                number=3,
                port_id=30521,
                waiting=12,
                copy_mode=CopyMode.PACKET,
                copy_range=65_531,
                dropped_full=4,
                dropped_socket=5,
                last_id=218,
            ),
        ),
        (
            "65535 -1862321137     0 0     0     0     0        0  1",
            BoundQueue(
                number=65_535,
                port_id=2_432_646_159,
                waiting=0,
                copy_mode=CopyMode.NONE,
                copy_range=0,
                dropped_full=0,
                dropped_socket=0,
                last_id=0,
            ),
        ),
    ],
)
def test_a_line_of_the_table(line: str, row: BoundQueue) -> None:
    assert parse_row(line) == row


@pytest.mark.parametrize(
    "line", ["", "3 30521 12 2 65531", "queue port waiting mode range full socket last", "1 2 3 9 5 6 7 8"]
)
def test_another_format_is_not_guessed_at(line: str) -> None:
    with pytest.raises(UnsupportedError, match="expected eight numbers"):
        parse_row(line)


def test_the_holder_of_a_port_is_a_process_by_id_and_name() -> None:
    channel = Channel.open(NETLINK_NETFILTER)
    try:
        port_id = channel.port_id
        name = Path("/proc/self/comm").read_text().strip()
        assert holder(port_id) == f"process {os.getpid()} ({name})"
    finally:
        channel.close()
    assert holder(port_id) == "an unknown process"

"""What the native queues ask of the compiled part, and what its packets are in Python."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from qfilter.compiler import portable_plan
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.policy.load import loads
from qfilter.queues.native import NativeQueues, to_packet

PLAIN = portable_plan(loads("version: 1\ndefault: {input: drop}\n"))
TRACKING = replace(PLAIN, conntrack=True)


@dataclass
class FakeServer:
    warnings: tuple[str, ...] = ()
    asked: list[bool] = field(default_factory=list)

    def configure(self, _length: int, _range: int, _open: bool, conntrack: bool, _deadline: float | None) -> None:
        self.asked.append(conntrack)


@pytest.mark.parametrize(
    ("plans", "asked"),
    [
        ([PLAIN, PLAIN], [False]),
        ([PLAIN, TRACKING], [True]),
        ([TRACKING, PLAIN, PLAIN], [False, False]),
    ],
)
def test_connections_are_asked_for_while_a_plan_wants_them(plans: list[Any], asked: list[bool]) -> None:
    server: Any = FakeServer()
    queues = NativeQueues(server, plans[0])
    for plan in plans[1:]:
        queues.configure(plan)
    assert server.asked == asked


@pytest.mark.parametrize(("state", "mark"), [(2, 0xFFFF_FFFF), (8, 0), (1, None)])
def test_packets_keep_what_the_kernel_said(state: int, mark: int | None) -> None:
    told = {
        "data": b"E",
        "hook": "input",
        "wire_length": 60,
        "mark": 3,
        "uid": None,
        "gid": 7,
        "ct_state": state,
        "ct_mark": mark,
        "timestamp": 1.5,
        "checksum_ready": False,
        "iifname": b"eth0",
        "oifname": None,
        "physin": b"\xff",
        "physout": None,
        "hwaddr": b"02:00:5e:00:53:01",
    }
    assert replace(to_packet(told), mark=9) == Packet(
        data=b"E",
        hook=Hook.INPUT,
        wire_length=60,
        mark=9,
        gid=7,
        ct_state=state,
        ct_mark=mark,
        timestamp=1.5,
        checksum_ready=False,
        iifname="eth0",
        physin="\udcff",
        hwaddr=bytes.fromhex("02005e005301"),
    )

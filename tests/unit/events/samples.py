"""Packets and verdicts for the tests of events."""

from __future__ import annotations

import os
import stat

import pytest

from qfilter.errors import Position
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import DROP, Logged, Reason, Verdict

SYN = bytes.fromhex("4500002800010000400666cdc0000201c633640704d2001600000000000000005002ffff4e150000")
AT = Position("rules/web.yaml", 12, 9)
NOW = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""
SUMMARY: dict[str, object] = {
    "saddr": "192.0.2.1",
    "daddr": "198.51.100.7",
    "sport": 1234,
    "dport": 22,
    "protocol": 6,
}


def packet(
    *,
    data: bytes = SYN,
    hook: Hook = Hook.FORWARD,
    wire_length: int = 40,
    iifname: str | None = "eth0",
    oifname: str | None = "eth1",
    timestamp: float | None = 1_000_000_000.5,
) -> Packet:
    return Packet(data=data, hook=hook, wire_length=wire_length, iifname=iifname, oifname=oifname, timestamp=timestamp)


BY_RULE = Verdict(DROP, Reason.RULE, "ssh", AT, effects=(Logged("all", AT), Logged("ssh", AT, "no: ")))
MALFORMED = Verdict(DROP, Reason.MALFORMED, detail="tcp-flags")


def belong_to(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on all files are another's, as far as the process can see."""
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[stat.ST_UID] = user
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", fstat)

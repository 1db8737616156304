"""Policies and packets as an operator writes them, for tests that need more than one packet."""

from __future__ import annotations

from dataclasses import replace

from qfilter.engine.build import build
from qfilter.engine.clock import Clock
from qfilter.engine.reference import ReferenceEngine
from qfilter.model.packet import Packet
from qfilter.model.verdict import Verdict
from qfilter.policy.load import loads

SECOND = 1_000_000_000


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0
        self.clock = Clock(monotonic=lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.now += round(seconds * SECOND)


def engine(text: str, clock: Clock | None = None) -> ReferenceEngine:
    """The engine of a policy that drops on input unless the text says otherwise."""
    head = "version: 1\n" if "default:" in text else "version: 1\ndefault: {input: drop}\n"
    return ReferenceEngine(loads(head + text), clock)


def packet(**fields: object) -> Packet:
    """A packet by its fields; `_` stands for the dot in a name, and the hook is input."""
    return build({"hook": "input", **{name.replace("_", "."): value for name, value in fields.items()}})


def tcp(dport: int, saddr: str = "192.0.2.1", **fields: object) -> Packet:
    """A TCP packet to a port."""
    return packet(protocol="tcp", dport=dport, saddr=saddr, **fields)


def udp(dport: int, saddr: str = "192.0.2.1", **fields: object) -> Packet:
    """A UDP packet to a port."""
    return packet(protocol="udp", dport=dport, saddr=saddr, **fields)


def cut(whole: Packet, size: int) -> Packet:
    """The same packet, of which the kernel copied less."""
    return replace(whole, data=whole.data[:size])


def said(verdict: Verdict) -> tuple[str, str, str | None]:
    """A verdict as tests compare it: what, why, which rule."""
    return str(verdict.decision), verdict.reason.value, verdict.rule

"""Both engines on one policy, at one moment: they must say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from qfilter.compiler import portable_plan
from qfilter.compiler.encode import encode
from qfilter.engine.clock import Clock
from qfilter.engine.native import NativeEngine
from qfilter.engine.reference import ReferenceEngine
from qfilter.fields import FIELDS, MAX_DEPTH
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Verdict

compared = Counter[str]()
"""How many verdicts and how many fields of packets both have been asked for, in this process."""


@dataclass
class Both:
    """The two engines, and the time that both are told."""

    policy: Policy
    now: int = 0
    """Monotonic nanoseconds."""
    zone: tzinfo = UTC
    native: NativeEngine = field(init=False)
    reference: ReferenceEngine = field(init=False)

    def __post_init__(self) -> None:
        clock = Clock(monotonic=lambda: self.now, wall=lambda: 0.0, timezone=self.zone)
        self.native = NativeEngine(self.policy, encode(portable_plan(self.policy)), clock)
        self.reference = ReferenceEngine(self.policy, clock)

    def decide(self, packet: Packet) -> Verdict:
        """What both say of a packet; raises AssertionError with both verdicts when they differ."""
        expected, found = self.reference.decide(packet), self.native.decide(packet)
        compared["verdicts"] += 1
        assert found == expected, f"\nnative    {found}\nreference {expected}\n{packet}"
        return found

    def decide_all(self, packets: Iterable[Packet], wait: Callable[[], int] = lambda: 0) -> None:
        """Judge packets one after the other, `wait()` nanoseconds apart, and compare what was counted at the end."""
        for packet in packets:
            self.decide(packet)
            self.now += wait()
        assert self.native.report() == self.reference.report()

    def read_all(self, packet: Packet) -> None:
        """Every field of a packet that is not malformed, through all tunnels; of any packet its summary."""
        view = self.reference.view(packet)
        assert self.native.summary(packet) == self.reference.summary(packet), packet
        if view.decoded.malformed:
            return
        for name in FIELDS:
            for depth in range(MAX_DEPTH + 1):
                expected, found = view.read(name, depth), self.native.read(packet, name, depth)
                compared["fields"] += 1
                assert found == expected, (
                    f"{'inner.' * depth}{name}: native {found!r}, reference {expected!r}\n{packet}"
                )

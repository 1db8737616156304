"""What the daemon asks of an engine, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol, Self

from qfilter.engine.sets import Digest, Element
from qfilter.errors import Position
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.report import Report
from qfilter.model.verdict import Verdict


class Engine(Protocol):
    """One policy in force, with its live sets, limits, flows and counts. Not safe to share between threads.

    Names of sets are names of the policy's dynamic sets; any other raises KeyError.
    """

    name: str
    """What `--engine` calls it."""
    policy: Policy

    def inherit(self, former: Self, flows: Mapping[str, Position]) -> None:
        """Take over what `former` knows by name; called once, before this engine has judged anything.

        Dynamic sets of the same name and type, limits of the same rule and the same numbers, counters, and the flows
        that the rules of `flows` decided, whose places that mapping has. Both share them from then on, so that
        `former` may judge meanwhile, in another thread, until this engine takes its place.
        """

    def decide(self, packet: Packet) -> Verdict:
        """The verdict of a packet. Never raises: what goes wrong has the outcome of the cause `error`."""

    def summary(self, packet: Packet) -> Mapping[str, int | IPv4Address | IPv6Address]:
        """Addresses, ports and protocol for events, as far as they are known; also of a malformed packet."""

    def report(self) -> Report:
        """What has been counted, by this engine and those that it inherited from."""

    def elements(self, name: str) -> Sequence[tuple[Element | Digest, float | None]]:
        """What was added to a dynamic set and is still in it, each with the seconds that it has left; None is ever."""

    def add(self, name: str, element: Element, timeout: float | None) -> bool:
        """Add an element, or start its time anew; `timeout` in seconds, None takes the set's. False: it is full."""

    def delete(self, name: str, element: Element) -> bool:
        """Take out an element that was added; False when it is not there."""

    def flush(self, name: str) -> int:
        """Take out all that was added; how many elements that were."""

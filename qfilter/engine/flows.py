"""Verdicts with `scope: flow`: the rest of the flow gets the same one, in both directions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from qfilter.engine.value import Value
from qfilter.errors import Position
from qfilter.fields import TCP, TCP_FLAGS
from qfilter.model.hook import Hook
from qfilter.model.verdict import Verdict

MAX_FLOWS = 65_536
_SECOND = 1_000_000_000
TCP_IDLE = 432_000 * _SECOND
OTHER_IDLE = 180 * _SECOND
"""How long a silent flow is remembered, in nanoseconds: conntrack's defaults (nf_conntrack-sysctl)."""

Read = Callable[[str], Value]
"""Reads a field of the packet at hand."""

# A flow that one hook accepted is not thereby accepted on another with other rules. Local traffic is one place:
# what `output` let out comes back by `input`.
_PLACE = {hook: "local" if hook in (Hook.INPUT, Hook.OUTPUT) else hook.value for hook in Hook}

# Each end of a flow stays behind its interface: who forges an end's address elsewhere has another flow. A hook that
# sees only one interface on the way of a routed packet tells nothing about the other direction.
_BEHIND: Mapping[Hook, tuple[str | None, str | None]] = {
    Hook.PREROUTING: (None, None),
    Hook.INPUT: ("iifname", None),
    Hook.FORWARD: ("iifname", "oifname"),
    Hook.OUTPUT: (None, "oifname"),
    Hook.POSTROUTING: (None, None),
}

Key = tuple[str, int, frozenset[tuple[Value, Value, Value | None]]]


@dataclass(slots=True)
class _Flow:
    verdict: Verdict
    seen: int
    generation: int
    """Of the policy whose rule it has its verdict from, or under which it was last seen."""


class Flows:
    """Remembered verdicts. When the table is full the flow that was silent longest is judged by the rules again."""

    def __init__(self, size: int = MAX_FLOWS) -> None:
        self._flows: OrderedDict[Key, _Flow] = OrderedDict()
        self._size = size
        self._generation = 0
        self._kept: Mapping[str, tuple[int, Position]] = {}
        """Rules of this policy whose flows of earlier ones go on: since which generation, and where they stand now."""

    def inherit(self, former: Flows, kept: Mapping[str, Position]) -> None:
        """Share the table, but go on only with flows of the rules in `kept`, which stand at these places now."""
        self._flows, self._generation = former._flows, former._generation + 1
        since = former._kept
        self._kept = {rule: (since[rule][0] if rule in since else former._generation, at) for rule, at in kept.items()}

    def recall(self, hook: Hook, read: Read, now: int) -> Verdict | None:
        """The verdict of this packet's flow, if it has one at `now` (monotonic nanoseconds)."""
        key = _key(hook, read) if self._flows else None
        flow = self._flows.get(key) if key else None
        if key is None or flow is None:
            return None
        protocol = key[1]
        if now - flow.seen >= (TCP_IDLE if protocol == TCP else OTHER_IDLE) or not self._goes_on(flow):
            del self._flows[key]
            return None
        if _opens(protocol, read):
            # For the rules to judge. The flow stays: a forged SYN must not cut it.
            return None
        flow.seen = now
        self._flows.move_to_end(key)
        return flow.verdict

    def remember(self, hook: Hook, read: Read, verdict: Verdict, now: int) -> None:
        """Give the rest of this packet's flow its verdict. A packet whose ports are unknown founds no flow."""
        key = _key(hook, read)
        if key is None:
            return
        if key not in self._flows and len(self._flows) >= self._size:
            self._flows.popitem(last=False)
        self._flows[key] = _Flow(replace(verdict, detail="flow", effects=(), mark=None), now, self._generation)

    def _goes_on(self, flow: _Flow) -> bool:
        if flow.generation == self._generation:
            return True
        since, at = self._kept.get(flow.verdict.rule or "", (self._generation, None))
        if flow.generation < since:
            return False
        flow.verdict, flow.generation = replace(flow.verdict, at=at), self._generation
        return True


def _key(hook: Hook, read: Read) -> Key | None:
    protocol, saddr, daddr = read("protocol"), read("saddr"), read("daddr")
    sport, dport = read("sport"), read("dport")
    if not isinstance(protocol, int) or not isinstance(sport, int) or not isinstance(dport, int):
        return None
    source, destination = (None if name is None else read(name) for name in _BEHIND[hook])
    return (_PLACE[hook], protocol, frozenset({(saddr, sport, source), (daddr, dport, destination)}))


def _opens(protocol: int, read: Read) -> bool:
    """Whether this packet would open a connection."""
    flags = read("tcp.flags") if protocol == TCP else 0
    return isinstance(flags, int) and flags & (TCP_FLAGS["syn"] | TCP_FLAGS["ack"]) == TCP_FLAGS["syn"]

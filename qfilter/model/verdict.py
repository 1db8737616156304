"""What becomes of a packet, and why: a verdict is never only "drop"."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qfilter.errors import Position


class Kind(StrEnum):
    """What is done with a packet."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    QUEUE = "queue"
    REPEAT = "repeat"


class RejectWith(StrEnum):
    """The answer that a rejected packet's sender gets, by nftables' names.

    Every name means something in both families (`qfilter.firewall.reject` has the table); `tcp-reset` answers
    anything but TCP with port-unreachable.
    """

    TCP_RESET = "tcp-reset"
    PORT_UNREACHABLE = "port-unreachable"
    HOST_UNREACHABLE = "host-unreachable"
    NO_ROUTE = "no-route"
    ADMIN_PROHIBITED = "admin-prohibited"
    NET_UNREACHABLE = "net-unreachable"
    PROT_UNREACHABLE = "prot-unreachable"
    NET_PROHIBITED = "net-prohibited"
    HOST_PROHIBITED = "host-prohibited"
    ADDR_UNREACHABLE = "addr-unreachable"
    POLICY_FAIL = "policy-fail"
    REJECT_ROUTE = "reject-route"

    @property
    def code(self) -> int:
        """1 to 12: what stands in the hand-back bits of the mark, see `QueueSettings.mark_mask`."""
        return tuple(RejectWith).index(self) + 1


@dataclass(frozen=True, slots=True)
class Decision:
    """A kind of verdict with its argument."""

    kind: Kind
    reject: RejectWith | None = None
    """Set exactly when `kind` is reject."""
    queue: int | None = None
    """0 to 65535; set exactly when `kind` is queue."""

    def __str__(self) -> str:
        argument = self.reject if self.reject is not None else self.queue
        return f"{self.kind}" if argument is None else f"{self.kind} {argument}"


ACCEPT = Decision(Kind.ACCEPT)
DROP = Decision(Kind.DROP)


class Reason(StrEnum):
    """Who decided: a rule, the hook's default, or one of the failure causes."""

    RULE = "rule"
    DEFAULT = "default"
    NO_LISTENER = "no_listener"
    QUEUE_FULL = "queue_full"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    FRAGMENT = "fragment"
    ERROR = "error"
    OVERLOAD = "overload"
    DEADLINE = "deadline"


CAUSES = tuple(Reason)[2:]
"""The keys of `on_failure`."""


@dataclass(frozen=True, slots=True)
class Logged:
    """A rule with `log` that matched on the way to the verdict."""

    rule: str
    at: Position
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Captured:
    """A rule with `capture` that matched: the packet goes to that file until it has `limit` bytes."""

    rule: str
    file: str
    limit: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and why it was made."""

    decision: Decision
    reason: Reason
    rule: str | None = None
    """The rule's id; set when `reason` is rule, and for a failure cause the rule that could not be decided."""
    at: Position | None = None
    """Where that rule, or the hook's default, stands."""
    detail: str = ""
    """More of the cause: the malformed code, the exception, the field that was unknown. Empty for rule and default."""
    mark: int | None = None
    """The packet's new mark; None leaves it as it is."""
    effects: tuple[Logged | Captured, ...] = ()
    """What matched rules want recorded, in the order in which they matched."""

"""What the operator wrote, checked; it knows nothing of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qfilter.errors import Diagnostic, Position
from qfilter.model.hook import Hook
from qfilter.model.malformed import Malformed
from qfilter.model.match import Addresses, Ranges
from qfilter.model.rule import Rule
from qfilter.model.verdict import Decision, Kind, Reason


class SetType(StrEnum):
    """What a set holds."""

    ADDRESS = "address"
    """Addresses, prefixes and address ranges of both families."""
    PORT = "port"
    NUMBER = "number"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Strings:
    """The elements of a set of strings, as UTF-8."""

    values: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDefinition:
    """A named set. A dynamic one is filled by actions while packets flow, on top of its elements."""

    name: str
    type: SetType
    at: Position
    elements: Addresses | Ranges | Strings
    """Addresses for `address`, Ranges for `port` and `number`, Strings for `string`."""
    dynamic: bool = False
    timeout: float | None = None
    """Seconds that an added element stays; None is for ever. Elements of the file never time out."""
    size: int = 65_536
    """How many elements actions may add; one more is refused and counted."""


class Target(StrEnum):
    """The kernel rule's target."""

    NFQUEUE = "nfqueue"
    """`-j NFQUEUE`, or nft's `queue` where nft was chosen."""
    QUEUE = "queue"
    """`-j QUEUE`: always queue 0; before Linux 3.5 that was ip_queue."""


class Backend(StrEnum):
    """The tool that installs the kernel rules."""

    AUTO = "auto"
    IPTABLES_LEGACY = "iptables-legacy"
    IPTABLES_NFT = "iptables-nft"
    NFT = "nft"


class Exempt(StrEnum):
    """What the kernel rules let past the queue, to whatever rules come after qfilter's."""

    LO = "lo"
    ESTABLISHED = "established"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """`queue:` of the policy."""

    first: int = 0
    last: int = 0
    """First and last queue number; more than one is `--queue-balance first:last`."""
    target: Target = Target.NFQUEUE
    backend: Backend = Backend.AUTO
    length: int = 1024
    """Packets that the kernel holds for a queue, 1 to 65,536."""
    copy_range: int | None = None
    """Bytes of a packet that the kernel copies, 40 to 65,531; None takes what the rules need."""
    socket_buffer: int | None = None
    """Receive buffer in bytes; None sizes it by length and copy range, 8 to 32 MiB."""
    cpu_fanout: bool = False
    """The CPU's number instead of a hash chooses the queue."""
    deadline: float | None = None
    """Seconds in which `scapy` and `python` conditions must have answered for a packet; later is the cause `deadline`.

    None waits. With a bound a verdict depends on how fast the machine is, so it has none unless the policy says so.
    """
    exempt: tuple[Exempt, ...] = ()
    mark_mask: int = 0xF000_0000
    """Four adjacent bits of the packet's mark that qfilter hands rejects back to the kernel with.

    A packet that arrives with one of them set is rejected, never accepted: a collision fails closed.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDefault:
    """What a packet gets on a hook when no rule decided it."""

    decision: Decision
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """One entry of `tests:`: packets by their fields, and what must become of the last one. Time stands still."""

    __test__ = False  # pytest collects classes called Test*

    at: Position
    packet: Mapping[str, object]
    """Field names to plain values as written, checked to be names that a packet can be built from; has `hook`."""
    expect: Decision
    exact: bool
    """False when only the kind was given: `expect: reject` is content with every reject code."""
    by: str | None = None
    """The rule's id, `default`, or a failure cause; None does not ask."""
    after: tuple[Mapping[str, object], ...] = ()
    """Packets that come before, in this order; what they leave in sets, limits and flows is there for `packet`."""
    times: int = 1
    """How often `packet` comes; the last verdict is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One loaded policy."""

    path: str
    digest: str
    """SHA-256, hex, over the bytes of all its files in the order in which they were read."""
    files: tuple[str, ...]
    """The policy, its includes and its set files, in that order."""
    defaults: Mapping[Hook, HookDefault]
    """Only these hooks are in force."""
    on_failure: Mapping[Reason, Kind]
    """Accept or drop for each of CAUSES."""
    allow: frozenset[Malformed] = frozenset()
    queue: QueueSettings = field(default_factory=QueueSettings)
    sets: Mapping[str, SetDefinition] = field(default_factory=dict)
    """In file order."""
    rules: tuple[Rule, ...] = ()
    tests: tuple[TestCase, ...] = ()
    settings: Mapping[str, Position] = field(default_factory=dict)
    """Where each value stands that has no position of its own, by its path: `queue.target`, `on_failure.queue_full`."""
    warnings: tuple[Diagnostic, ...] = ()

# The compiled part, native/python: what crosses between Python and Rust. Numbers count in the order of the enums.

from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Protocol, TypeAlias

from qfilter.model.packet import Packet

VERSION: Final[str]

# A verdict: kind, argument (reject code or queue number, else 0), reason (0 rule, 1 default, 2 and up the causes),
# index of the rule, detail, new mark, and rule and action of each effect.
Row: TypeAlias = tuple[int, int, int, int | None, str, int | None, list[tuple[int, int]]]

# Packets and bytes.
Tallies: TypeAlias = list[tuple[int, int]]

# By rule, named counter, hook, cause and kind of verdict, and packets by malformed code.
Totals: TypeAlias = tuple[Tallies, Tallies, Tallies, Tallies, Tallies, list[tuple[str, int]]]

Element: TypeAlias = int | bytes | IPv4Address | IPv6Address

# Of a field: its value (several as a tuple, text as bytes), None where the packet has none, the number of a cause with
# its detail where it is unknown, and what is known of a value with its length, if that is known, and then the same.
Unknown: TypeAlias = tuple[int, str]
Known: TypeAlias = int | bytes | IPv4Address | IPv6Address | list[int]

# A packet before a rule whose match only Python can tell.
class Suspended:
    rule: int
    mark: int

# A plan in force. Times are monotonic nanoseconds and seconds since the epoch.
class Engine:
    def __init__(self, plan: bytes, zone: str | int | None) -> None: ...
    def fresh(self, zone: str | int | None) -> Engine: ...
    def decide(self, packet: Packet, monotonic: int, wall: float) -> Row | Suspended: ...
    def resume(self, suspended: Suspended, answer: bool | int, words: str) -> Row | Suspended: ...
    def ends(self, packet: Packet) -> list[Known | None]: ...
    def read(
        self, packet: Packet, field: int, depth: int, wall: float
    ) -> tuple[Known | None, Unknown | None, int | None]: ...
    def structure(self) -> tuple[int, list[tuple[str, int, int, int, int]], list[str], int]: ...
    def count_error(self, length: int) -> None: ...
    def inherit(self, former: Engine, kept: AbstractSet[str]) -> None: ...
    def totals(self) -> Totals: ...
    def contains(self, set: int, element: Element, monotonic: int) -> bool: ...
    def add(self, set: int, element: Element, timeout: int | None, monotonic: int) -> bool: ...
    def delete(self, set: int, element: Element, monotonic: int) -> bool: ...
    def flush(self, set: int) -> None: ...
    def elements(self, set: int, monotonic: int) -> list[tuple[Element | tuple[str, bytes], int | None]]: ...
    def set_tally(self, set: int, monotonic: int) -> tuple[int, int, int]: ...

# How many frames and how many bytes were taken, and their rows.
Batch: TypeAlias = tuple[int, int, str]

# What qfilter.engine.native.NativeReplay has.
class ReplayHost(Protocol):
    def names(self, interface: str | None) -> tuple[str | None, str | None]: ...
    def pieces(
        self, row: Row, iifname: str | None, oifname: str | None, protocol: int | None
    ) -> tuple[str, str, str, str]: ...
    def ask(
        self,
        rule: int,
        mark: int,
        now: int,
        data: bytes,
        wire_length: int,
        timestamp: float | None,
        iifname: str | None,
        oifname: str | None,
    ) -> tuple[bool | int, str]: ...

# The packets of a capture, each with a row: a line with its ends in so many columns, or an object when that is None.
class Replay:
    def __init__(self, engine: Engine, host: ReplayHost, hook: str, ends: int | None) -> None: ...
    without_ip: int
    now: int
    def pcap(self, block: bytes, at: int, big: bool, unit: int, link_type: int) -> Batch: ...
    def pcapng(self, block: bytes, at: int, big: bool, interfaces: list[Any]) -> Batch: ...
    def packet(
        self,
        n: int,
        data: bytes | None,
        wire_length: int,
        nanoseconds: int | None,
        interface: str | None,
    ) -> str: ...

# A queue is held by another socket: its number.
class TakenError(Exception): ...

# NFQUEUE without CAP_NET_ADMIN.
class PrivilegeError(Exception): ...

# This kernel cannot do what was asked.
class UnsupportedError(Exception): ...

# A packet's fields by their names in qfilter.model.packet.Packet; text as bytes, hwaddr as such text too.
Fields: TypeAlias = dict[str, Any]

# Queue, ticket, number of the engine, index of the rule, mark by now, monotonic nanoseconds, packet.
Question: TypeAlias = tuple[int, int, int, int, int, int, Fields]

# Number of the engine, packet (None where not more than its id is known), verdict.
Recorded: TypeAlias = tuple[int, Fields | None, Row]

# Bound queues; packets are judged from `start` on. The first engine has the number 0, each `replace` gives the next.
class Server:
    def __init__(
        self,
        engine: Engine,
        *,
        first: int,
        last: int,
        length: int,
        copy_range: int,
        socket_buffer: int | None,
        fail_open: bool,
        conntrack: bool,
        deadline: float | None,
    ) -> None: ...
    warnings: list[str]
    events_lost: int
    def start(self) -> None: ...
    def replace(self, engine: Engine) -> int: ...
    def answer_rejects(self, answered: bool) -> None: ...
    def configure(
        self, length: int, copy_range: int, fail_open: bool, conntrack: bool, deadline: float | None
    ) -> None: ...
    def totals(self, number: int) -> Totals: ...
    def retire(self, number: int) -> Totals | None: ...
    def questions(self, most: int, patience: float) -> list[Question]: ...
    def answer(self, answers: list[tuple[int, int, bool | int, str]]) -> None: ...
    def events(self, most: int, patience: float) -> list[Recorded]: ...
    def counters(self) -> list[tuple[int, dict[str, Any]]]: ...
    def failure(self) -> str | None: ...
    def stop(self, patience: float) -> None: ...

# The addresses of a set while it is read; see addresses.rs. Ranges are packed as in the plan document.
class AddressList:
    def __init__(self) -> None: ...
    def read(self, text: bytes) -> list[tuple[int, str]]: ...
    def add(self, bits: int, low: int, high: int) -> None: ...
    def take_packed(self) -> tuple[bytes, bytes]: ...

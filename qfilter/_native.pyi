# The compiled part, native/python: what crosses between Python and Rust. Numbers count in the order of the enums.

from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from qfilter.model.packet import Packet

VERSION: Final[str]

# A verdict: kind, argument (reject code or queue number, else 0), reason (0 rule, 1 default, 2 and up the causes),
# index of the rule, detail, new mark, and rule and action of each effect.
Row: TypeAlias = tuple[int, int, int, int | None, str, int | None, list[tuple[int, int]]]

# Packets and bytes.
Tallies: TypeAlias = list[tuple[int, int]]

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
    def decide(self, packet: Packet, monotonic: int, wall: float) -> Row | Suspended: ...
    def resume(self, suspended: Suspended, answer: bool | int, words: str) -> Row | Suspended: ...
    def read(
        self, packet: Packet, field: int, depth: int, wall: float
    ) -> tuple[Known | None, Unknown | None, int | None]: ...
    def count_error(self, length: int) -> None: ...
    def inherit(self, former: Engine, kept: AbstractSet[str]) -> None: ...
    def totals(self) -> tuple[Tallies, Tallies, Tallies, Tallies, Tallies, list[tuple[str, int]]]: ...
    def contains(self, set: int, element: Element, monotonic: int) -> bool: ...
    def add(self, set: int, element: Element, timeout: int | None, monotonic: int) -> bool: ...
    def delete(self, set: int, element: Element, monotonic: int) -> bool: ...
    def flush(self, set: int) -> None: ...
    def elements(self, set: int, monotonic: int) -> list[tuple[Element | tuple[str, bytes], int | None]]: ...
    def set_tally(self, set: int, monotonic: int) -> tuple[int, int, int]: ...

"""What a value must be. The loader makes these from YAML, sorted and merged; engines only test them.

Each class tests one value of one kind: int, address, text (bytes) or, for fields with several values, any of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from qfilter.model.spans import Pair, Spans


@dataclass(frozen=True, slots=True)
class Ranges:
    """A number inside one of the inclusive ranges, which are sorted and do not touch. Empty matches nothing."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, init=False)
class Addresses:
    """An address inside one of the inclusive ranges of its family, as integers; sorted, never overlapping."""

    v4: Spans
    v6: Spans

    def __init__(self, v4: Iterable[Pair] = (), v6: Iterable[Pair] = ()) -> None:
        object.__setattr__(self, "v4", Spans.of(v4, 4))
        object.__setattr__(self, "v6", Spans.of(v6, 16))


@dataclass(frozen=True, slots=True)
class Masked:
    """`number & mask == value`: nft's `syn / fin,syn,rst,ack` and iptables' `0x1/0xff`."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class AnyBit:
    """`number & bits != 0`: nft's `tcp flags syn`."""

    bits: int


class TextTest(StrEnum):
    """How a text or some bytes are compared."""

    EQUALS = "equals"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Text:
    """A comparison of text, byte for byte (text is UTF-8). `regex` is RE2 syntax, searched for, on bytes (Latin-1)."""

    test: TextTest
    pattern: bytes


@dataclass(frozen=True, slots=True)
class TextLength:
    """The number of bytes of a text."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class InSet:
    """An element of the named set, static or dynamic. The set's type fits the field."""

    name: str


@dataclass(frozen=True, slots=True)
class NotMatch:
    """The value is there and does not match. Of a field with several values: none of them matches."""

    match: Match


@dataclass(frozen=True, slots=True)
class AnyMatch:
    """A YAML list: one of them matches. Empty matches nothing."""

    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class AllMatch:
    """A mapping with several tests: all of them match."""

    matches: tuple[Match, ...]


Match = Ranges | Addresses | Masked | AnyBit | Text | TextLength | InSet | NotMatch | AnyMatch | AllMatch

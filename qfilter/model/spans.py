"""Inclusive ranges of addresses as bytes: a million of them take eight megabytes for IPv4 and 32 for IPv6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Self, overload

Pair = tuple[int, int]
"""An inclusive range, low to high."""


class Spans(Sequence[Pair]):
    """Ranges of numbers of `width` bytes, sorted, never touching. Immutable; what holds the same numbers is equal.

    `packed` has the first and the last number of each range in turn, big endian.
    """

    __slots__ = ("packed", "width")

    def __init__(self, packed: bytes, width: int) -> None:
        self.packed = packed
        self.width = width

    @classmethod
    def of(cls, pairs: Iterable[Pair], width: int) -> Self:
        """Of ranges that are sorted and do not touch."""
        if isinstance(pairs, cls):
            return pairs
        return cls(b"".join([number.to_bytes(width, "big") for number in chain.from_iterable(pairs)]), width)

    def __len__(self) -> int:
        return len(self.packed) // (2 * self.width)

    @overload
    def __getitem__(self, index: int) -> Pair: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Pair, ...]: ...

    def __getitem__(self, index: int | slice) -> Pair | tuple[Pair, ...]:
        if isinstance(index, slice):
            return tuple(map(self._pair, range(*index.indices(len(self)))))
        return self._pair(range(len(self))[index])

    def __iter__(self) -> Iterator[Pair]:
        return map(self._pair, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self.packed, self.width) == (other.packed, other.width)

    def __hash__(self) -> int:
        return hash(self.packed)

    def __repr__(self) -> str:
        shown = [f"{low:#x}-{high:#x}" for low, high in self[:8]]
        return f"<{', '.join(shown)}{', ...' if len(self) > 8 else ''}>"

    def _pair(self, index: int) -> Pair:
        at, width = index * 2 * self.width, self.width
        number = int.from_bytes(self.packed[at : at + 2 * width], "big")
        return number >> 8 * width, number & ((1 << 8 * width) - 1)

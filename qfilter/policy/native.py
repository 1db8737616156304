"""Long lists of addresses, read by the compiled core."""

from __future__ import annotations

from collections.abc import Sequence

from qfilter import _native
from qfilter.model.match import Addresses
from qfilter.model.spans import Spans


class AddressList:
    """The addresses of a set while it is read."""

    def __init__(self) -> None:
        self._core = _native.AddressList()

    def read(self, text: bytes) -> Sequence[tuple[int, str]]:
        """Add the addresses, prefixes and ranges of a text in UTF-8, one a line.

        Gives the lines, with their numbers, that it has not read: `values.parse_address` reads more forms, and knows
        what is wrong with others.
        """
        return self._core.read(text)

    def add(self, bits: int, low: int, high: int) -> None:
        """Add an inclusive range of addresses of 32 or 128 bits."""
        self._core.add(bits, low, high)

    def build(self) -> Addresses:
        """All that was added, sorted and merged; then it is empty again."""
        v4, v6 = self._core.take_packed()
        return Addresses(Spans(v4, 4), Spans(v6, 16))

"""A YAML document with its positions: what the reader makes and everything else in this room reads."""

from __future__ import annotations

from dataclasses import dataclass

from qfilter.errors import Position


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. `value` is what YAML 1.2's core schema reads; `text` is what the file says."""

    value: str | int | float | bool | None
    text: str
    at: Position
    width: int
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    at: Position
    width: int = 1


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping in file order; keys are text and none stands twice."""

    entries: tuple[tuple[Scalar, Node], ...]
    at: Position
    width: int = 1

    def get(self, key: str) -> Node | None:
        """The value of a key, or None."""
        return next((node for name, node in self.entries if name.text == key), None)


Node = Scalar | Sequence | Mapping

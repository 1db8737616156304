"""Conditions written in Python: what `python: name` in a policy refers to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qfilter.fields import FIELDS
from qfilter.model.packet import Packet

Function = Callable[[Packet], bool]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A registered function, and the fields that must be there before it is asked."""

    name: str
    function: Function
    needs: tuple[str, ...]


_registered: dict[str, Predicate] = {}


def predicate(name: str, *, needs: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Register a function as the condition `python: name`.

    It is called with a Packet whose `fields` hold the values of `needs`, by field name. A packet that lacks one of
    them does not match and the function is not called; one whose field is unknown is unknown. It must return a bool;
    anything that it raises gives the packet the outcome of the cause `error`. Raises ValueError for a field that the
    field table does not have, and for a name that another function holds.
    """
    fields = tuple(needs)
    for field in fields:
        if field not in FIELDS:
            raise ValueError(f"predicate {name!r}: {field!r} is not a field")

    def register(function: Function) -> Function:
        held = _registered.get(name)
        if held is not None and _origin(held.function) != _origin(function):
            raise ValueError(f"predicate {name!r}: already registered by {'.'.join(_origin(held.function))}")
        _registered[name] = Predicate(name, function, fields)
        return function

    return register


def find(name: str) -> Predicate | None:
    """The predicate of that name, or None."""
    return _registered.get(name)


def names() -> tuple[str, ...]:
    """Every registered name, sorted."""
    return tuple(sorted(_registered))


def _origin(function: Function) -> tuple[str, str]:
    return (getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function)))

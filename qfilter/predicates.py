"""Conditions written in Python: what `python: name` in a policy refers to while it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

from qfilter.fields import FIELDS
from qfilter.model.rule import Function, Predicate

_registered: dict[str, Predicate] = {}
_OWN = "__qfilter_predicates__"
"""Where a plugin keeps its own."""


def predicate(name: str, *, needs: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Register a function as the condition `python: name`.

    It is called with a Packet whose `fields` hold the values of `needs`, by field name. A packet that lacks one of
    them does not match and the function is not called; one whose field is unknown is unknown. It must return a bool;
    anything that it raises gives the packet the outcome of the cause `error`. A policy keeps the functions that it was
    loaded with. Raises ValueError for a field that the field table does not have, and for a name that another function
    holds.
    """
    fields = tuple(needs)
    for field in fields:
        if field not in FIELDS:
            raise ValueError(f"predicate {name!r}: {field!r} is not a field")

    def register(function: Function) -> Function:
        one = Predicate(name, fields, function)
        _check(one, _registered)
        enter(one, _home(function))
        return function

    return register


def enter(one: Predicate, names: dict[str, Predicate]) -> None:
    """Raises ValueError for a name that another function holds."""
    _check(one, names)
    names[one.name] = one


def find(name: str) -> Predicate | None:
    """The predicate of that name, or None. Those of plugins are in `own`."""
    return _registered.get(name)


def names() -> tuple[str, ...]:
    """Every registered name, sorted, but for those of plugins."""
    return tuple(sorted(_registered))


def needs(function: Function) -> tuple[str, ...]:
    """The fields that a function was registered with."""
    return next((one.needs for one in _home(function).values() if one.function is function), ())


def keep_apart(plugin: ModuleType) -> None:
    """From now on what functions of this module register stays with it, and goes with it."""
    vars(plugin)[_OWN] = {}


def own(module: ModuleType) -> Mapping[str, Predicate]:
    """What was registered by functions of a module that is kept apart."""
    found: Mapping[str, Predicate] = vars(module).get(_OWN, {})
    return found


def _home(function: Function) -> dict[str, Predicate]:
    module = sys.modules.get(getattr(function, "__module__", ""))
    found: dict[str, Predicate] = getattr(module, "__dict__", {}).get(_OWN, _registered)
    return found


def _check(one: Predicate, names: Mapping[str, Predicate]) -> None:
    held = names.get(one.name)
    if held is not None and _origin(held.function) != _origin(one.function):
        raise ValueError(f"predicate {one.name!r}: already registered by {'.'.join(_origin(held.function))}")


def _origin(function: Function) -> tuple[str, str]:
    return (getattr(function, "__module__", "?"), getattr(function, "__qualname__", repr(function)))

"""The sets of a service while packets flow: what is in them, and what an operator changes.

The engine is asked for a moment at a time: `held` keeps it from judging, and nothing here holds it longer than a few
dozen elements take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain

from qfilter.control.elements import count_file, read_element, show_element, show_file
from qfilter.control.messages import Change, Changed, ChangeSet, ElementState, Sets, SetState
from qfilter.engine.base import Engine
from qfilter.engine.sets import Element
from qfilter.errors import ControlError
from qfilter.model.policy import Policy, SetDefinition
from qfilter.model.report import SetTally

Held = Callable[[], AbstractContextManager[None]]
"""While such a context lasts the engine is ours."""

_BATCH = 64
"""Elements between two packets."""


def sets(policy: Policy, tallies: Mapping[str, SetTally]) -> Sets:
    """Every set; `tallies` are those of the dynamic ones."""
    return Sets(
        sets=tuple(
            SetState(
                name=name,
                type=definition.type,
                dynamic=definition.dynamic,
                file=count_file(definition),
                added=tallies[name].elements if name in tallies else 0,
                size=definition.size if definition.dynamic else None,
            )
            for name, definition in policy.sets.items()
        )
    )


def elements(engine: Engine, name: str, held: Held) -> Iterator[ElementState]:
    """What is in a set: what was added, then what the file has. Raises ControlError for a set that is not there."""
    definition = _set(engine.policy, name)
    with held():
        added = engine.elements(name) if definition.dynamic else ()
    return chain(
        (ElementState(show_element(element), True, seconds) for element, seconds in added),
        (ElementState(text, False) for text in show_file(definition)),
    )


def change(engine: Engine, wanted: ChangeSet, held: Held) -> Changed:
    """Add, delete or flush. Raises ControlError, and then nothing was changed."""
    definition = _set(engine.policy, wanted.set)
    if not definition.dynamic:
        raise ControlError(f"set {wanted.set!r} at {definition.at}: expected a set with dynamic: true")
    found = [read_element(definition, text) for text in wanted.elements]
    if wanted.change is Change.FLUSH:
        with held():
            return Changed(count=engine.flush(wanted.set))
    done: list[bool] = []
    for start in range(0, len(found), _BATCH):
        with held():
            done += _apply(engine, wanted, found[start : start + _BATCH])
    if wanted.change is Change.ADD:
        return Changed(count=done.count(True), refused=done.count(False))
    missing = (text for text, there in zip(wanted.elements, done, strict=True) if not there)
    return Changed(count=done.count(True), absent=tuple(missing))


def _apply(engine: Engine, wanted: ChangeSet, batch: Sequence[Element]) -> list[bool]:
    if wanted.change is Change.ADD:
        return [engine.add(wanted.set, element, wanted.timeout) for element in batch]
    return [engine.delete(wanted.set, element) for element in batch]


def _set(policy: Policy, name: str) -> SetDefinition:
    if name not in policy.sets:
        raise ControlError(f"set {name!r}: expected one of {', '.join(policy.sets) or 'none: the policy has no sets'}")
    return policy.sets[name]

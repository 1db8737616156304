"""`define:` of all files: one namespace, no cycles, and a bound on what references expand to.

References are checked once, here, so that whoever resolves them later needs neither a limit nor a memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import Problems
from qfilter.policy.scope import NAME, Scope, reference
from qfilter.policy.values import describe

MAX_EXPANDED = 100_000
"""Nodes that one definition may expand to."""
MAX_DEPTH = 32
"""Lists and mappings inside each other that one definition may expand to."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A name and what it was given."""

    key: Scalar
    node: Node

    @property
    def name(self) -> str:
        return self.key.text


def declared(section: str, root: Mapping, problems: Problems) -> Iterator[Declared]:
    """The entries of `define:` or `sets:` of one file whose names can be referred to."""
    node = root.get(section)
    if node is None:
        return
    if not isinstance(node, Mapping):
        problems.error("wrong-type", node, f"{describe(node)}: expected a mapping of names")
        return
    for key, value in node.entries:
        if NAME.fullmatch(key.text):
            yield Declared(key, value)
        else:
            message = f"name {key.text!r}: expected a letter or _, then letters, digits, and any of _ . -"
            problems.error("bad-value", key, message)


def unique(found: list[Declared], problems: Problems) -> dict[str, Declared]:
    """By name; a name that two files, or a definition and a set, both declare is reported."""
    names: dict[str, Declared] = {}
    for entry in found:
        first = names.setdefault(entry.name, entry)
        if first is not entry:
            problems.error("duplicate-key", entry.key, f"name {entry.name!r} already stands at {first.key.at}")
    return names


def define(entries: list[Declared], scope: Scope) -> None:
    """Put definitions into the scope; cyclic and exploding ones are reported and stand there as broken."""
    nodes = {entry.name: entry.node for entry in entries}
    scope.defines = dict.fromkeys(nodes)
    references = {name: list(_references(node)) for name, node in nodes.items()}
    for found in references.values():
        for place in found:
            scope.resolve(place)
    costs: dict[str, tuple[int, int]] = {}
    for name in _in_order(references, scope):
        node, inner = nodes[name], reference(nodes[name])
        size, depth = costs[name] = _cost(node, costs)
        if size > MAX_EXPANDED:
            message = f"'${name}' expands to more than {MAX_EXPANDED:,} values: expected a set"
            scope.problems.error("alias-bomb", node, message)
        elif depth > MAX_DEPTH:
            scope.problems.error("too-deep", node, f"'${name}' expands to lists deeper than {MAX_DEPTH}")
        else:
            scope.defines[name] = node if inner is None else scope.defines.get(inner, node)


def mentioned(node: Node) -> Iterator[str]:
    """Every name that stands in a node as one of a definition or a set, also where mistakes keep it from being read."""
    yield from (place.text[1:] for place in _references(node))
    for inner in _nodes(node):
        name = inner.get("set") if isinstance(inner, Mapping) else None
        if isinstance(name, Scalar):
            yield name.text


def _references(node: Node) -> Iterator[Scalar]:
    """Every `$name` inside a node."""
    return (here for here in _nodes(node) if isinstance(here, Scalar) and reference(here) is not None)


def _nodes(node: Node) -> Iterator[Node]:
    """A node and all inside it, in file order."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        yield here
        if isinstance(here, Sequence):
            waiting.extend(reversed(here.items))
        elif isinstance(here, Mapping):
            waiting.extend(value for _, value in reversed(here.entries))


def _in_order(references: dict[str, list[Scalar]], scope: Scope) -> Iterator[str]:
    """Names after those that they refer to; what is on a cycle is reported and left out, and what leads there too."""
    waiting = {name: {place.text[1:] for place in found} & references.keys() for name, found in references.items()}
    users: dict[str, list[str]] = {name: [] for name in references}
    for name, needs in waiting.items():
        for need in needs:
            users[need].append(name)
    ready = [name for name, needs in waiting.items() if not needs]
    while ready:
        name = ready.pop()
        del waiting[name]
        yield name
        for user in users[name]:
            waiting[user].discard(name)
            if not waiting[user]:
                ready.append(user)
    walked: set[str] = set()
    for start in waiting:
        path: dict[str, Scalar] = {}
        name = start
        while name not in walked:
            walked.add(name)
            path[name] = next(place for place in references[name] if place.text[1:] in waiting)
            name = path[name].text[1:]
        if name in path:
            round_trip = [*list(path)[list(path).index(name) :], name]
            shown = " -> ".join(f"'${step}'" for step in round_trip)
            scope.problems.error("cyclic", path[name], f"'${name}' refers to itself: {shown}")


def _cost(node: Node, costs: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Nodes and depth of a value with all references expanded. A reference to a set, or to nothing, is one node."""
    if isinstance(node, Scalar):
        return costs.get(reference(node) or "", (1, 0))
    children = node.items if isinstance(node, Sequence) else tuple(value for _, value in node.entries)
    inner = [_cost(child, costs) for child in children]
    return 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)

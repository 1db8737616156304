"""What names mean while a policy is being read: definitions and sets share one namespace, `$name` refers to either."""

from __future__ import annotations

import re
from collections.abc import Mapping as Table
from dataclasses import dataclass, field

from qfilter.model.match import Match
from qfilter.model.policy import SetDefinition
from qfilter.model.rule import Predicate
from qfilter.policy.node import Node, Scalar
from qfilter.policy.problems import Problems, nearest

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""What a definition, a set and a `$reference` may be called."""


def reference(node: Node) -> str | None:
    """The name in a plain `$name`; None for anything else. A quoted '$name' is that text."""
    if isinstance(node, Scalar) and not node.quoted and node.text.startswith("$"):
        return node.text[1:]
    return None


@dataclass(slots=True)
class Scope:
    """The names of one policy. None stands for a definition or set that is broken and has been reported."""

    problems: Problems
    folder: str
    """Real path of the policy's folder."""
    defines: Table[str, Node | None] = field(default_factory=dict)
    """Values of `define:`; never a reference themselves, but a list or mapping may hold more of them."""
    sets: Table[str, SetDefinition | None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Names that something refers to."""
    matches: dict[tuple[str, ...], Match | None] = field(default_factory=dict)
    """What definitions mean to a field, by its key and their name: a list is read once, however often it is used."""
    predicates: dict[str, Predicate] = field(default_factory=dict)
    """What the policy's plugins have registered, by name."""

    def resolve(self, node: Node) -> Node | SetDefinition | None:
        """What stands for a node: for `$name` its definition's value or its set, for any other node itself.

        None after an `undefined` problem, or when the definition is broken. Only the node itself is resolved: the
        items of a list are the caller's to resolve, and a list among them means its items. That ends: references
        are neither cyclic nor deep, and expand to a bounded number of nodes.
        """
        name = reference(node)
        if name is None:
            return node
        self.used.add(name)
        if name in self.defines:
            return self.defines[name]
        if name in self.sets:
            return self.sets[name]
        meant = nearest(name, [*self.defines, *self.sets])
        expected = (
            "a name of define: or sets:" if NAME.fullmatch(name) else f"a name; quote it to mean the text: '${name}'"
        )
        self._undefined(node, f"'${name}'", expected, None if meant is None else f"${meant}")
        return None

    def named_set(self, node: Node) -> SetDefinition | None:
        """The set that an action names, as `name` or `$name`; None after a problem was reported."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            self.problems.error("wrong-type", node, "expected the name of a set")
            return None
        name = reference(node) or node.text
        self.used.add(name)
        if name in self.sets:
            return self.sets[name]
        self._undefined(node, f"set {name!r}", "a name of sets:", nearest(name, self.sets))
        return None

    def _undefined(self, node: Node, what: str, expected: str, meant: str | None) -> None:
        self.problems.error("undefined", node, f"{what} is not defined: expected {expected}", suggestion=meant)

"""A piece of YAML as a node, with the scope and the problems of reading it."""

from __future__ import annotations

from collections.abc import Mapping as Table

from qfilter.errors import Position
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition, SetType, Strings
from qfilter.policy.node import Mapping, Node
from qfilter.policy.problems import Problems
from qfilter.policy.reader import read
from qfilter.policy.scope import Scope

HERE = Position("sets.yaml", 1, 1)


def a_set(name: str, type: SetType, *, dynamic: bool = False, elements: Strings | None = None) -> SetDefinition:
    """A set of that type, with one element."""
    some: Table[SetType, Addresses | Ranges | Strings] = {
        SetType.ADDRESS: Addresses(v4=((1, 1),)),
        SetType.PORT: Ranges(((22, 22),)),
        SetType.NUMBER: Ranges(((7, 7),)),
        SetType.STRING: Strings(frozenset({b"eth0"})),
    }
    return SetDefinition(name=name, type=type, at=HERE, elements=elements or some[type], dynamic=dynamic)


SETS = {
    "hosts": a_set("hosts", SetType.ADDRESS),
    "seen": a_set("seen", SetType.ADDRESS, dynamic=True),
    "ports": a_set("ports", SetType.PORT),
    "numbers": a_set("numbers", SetType.NUMBER, dynamic=True),
    "names": a_set("names", SetType.STRING),
    "cards": a_set("cards", SetType.STRING, elements=Strings(frozenset({b"02-00-5E-00-53-01"}))),
}

DEFINES = """
lan: [192.0.2.0/24, 2001:db8:1::/64]
web: {protocol: tcp, dport: [80, 443]}
more: [$lan, 198.51.100.1]
one: 22
nothing: []
"""


def node_of(text: str, problems: Problems | None = None, file: str = "p.yaml") -> Node:
    """The document of a text that is YAML."""
    found = read(text.encode(), file, problems or Problems())
    assert found is not None, text
    return found


def mapping_of(text: str) -> Mapping:
    """The mapping of a text."""
    found = node_of(text)
    assert isinstance(found, Mapping)
    return found


def a_scope(folder: str = "/nonexistent") -> Scope:
    """A scope with DEFINES and SETS."""
    defines: dict[str, Node | None] = {key.text: value for key, value in mapping_of(DEFINES).entries}
    return Scope(Problems(), folder, defines | {"broken": None}, dict(SETS))


def said(scope: Scope) -> list[str]:
    """Every problem as `line:column kind: message (suggestion)`."""
    return [
        f"{one.at.line}:{one.at.column} {one.kind}: {one.message}" + (f" ({one.suggestion})" if one.suggestion else "")
        for one in scope.problems.errors
    ]

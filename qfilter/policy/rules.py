"""`rules:` of all files to rules: ids, places, what a rule must have, and the conditions and actions in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qfilter.errors import Position
from qfilter.model.rule import AllOf, Condition, Rule
from qfilter.model.rule import Scope as RuleScope
from qfilter.model.verdict import Reason
from qfilter.policy.actions import ACTIONS, RULE_KEYS, parse_actions, parse_limit, parse_verdict
from qfilter.policy.conditions import parse_match
from qfilter.policy.document import IncludedDocument, IncludeDocument, RuleDocument, Rules
from qfilter.policy.include import File, Files
from qfilter.policy.node import Mapping, Node, Scalar
from qfilter.policy.scope import Scope
from qfilter.policy.values import flatten

RESERVED = tuple(reason.value for reason in Reason if reason is not Reason.RULE)
"""What `by:` of a test may name besides rules."""


@dataclass(slots=True)
class RuleReader:
    """Makes the rules of one policy, in the order in which they are asked."""

    scope: Scope
    files: Files
    documents: dict[str, IncludedDocument]
    """By the file's name."""
    prefix: str
    """The policy's folder as positions call it; ids made from positions leave it out."""
    ids: dict[str, Position] = field(default_factory=dict)
    unread: set[Position] = field(default_factory=set)
    """Places of rules of which it is not known, for their mistakes, which packets they take."""

    def read(self, file: File, outer: tuple[Condition, ...] = ()) -> tuple[Rule, ...]:
        """The rules of a file: those that its `include` brings, then its own. `outer` are the matches around it."""
        document = self.documents.get(file.name)
        return () if document is None else (*self._included(document.include, outer), *self._own(document.rules, outer))

    def _included(self, node: Node | None, outer: tuple[Condition, ...]) -> Iterator[Rule]:
        for file in self.files.included(node):
            yield from self.read(file, outer)

    def _own(self, entries: Rules, outer: tuple[Condition, ...]) -> Iterator[Rule]:
        for entry in entries:
            if isinstance(entry, IncludeDocument):
                yield from self._included(entry.include, outer)
            else:
                yield self._rule(entry, outer)

    def _rule(self, document: RuleDocument, outer: tuple[Condition, ...]) -> Rule:
        scope, node = self.scope, document.node
        match = AllOf(()) if document.match is None else parse_match(document.match, scope, document.hook, outer)
        limit = None if document.limit is None else parse_limit(document.limit, scope)
        rule = Rule(
            id=self._id(document),
            at=node.at,
            hooks=tuple(dict.fromkeys(document.hook)),
            match=match or AllOf(()),
            limit=limit,
            actions=parse_actions(node, scope),
            verdict=None if document.verdict is None else parse_verdict(document.verdict, scope),
            scope=document.scope,
            rules=tuple(self._own(document.rules or (), (*outer, match) if match else outer)),
        )
        self._check(document)
        if match is None or (document.limit is not None and limit is None) or not self._is_whole(document):
            self.unread.add(node.at)
        return rule

    def _is_whole(self, document: RuleDocument) -> bool:
        """Whether all of its keys, and all of its hooks, mean something."""
        hooks = document.node.get("hook")
        given = () if hooks is None else tuple(flatten(hooks, self.scope))
        return len(given) == len(document.hook) and all(key.text in RULE_KEYS for key, _ in document.node.entries)

    def _check(self, document: RuleDocument) -> None:
        problems, node = self.scope.problems, document.node
        keys = {key.text for key, _ in node.entries}
        if "verdict" in keys and "rules" in keys:
            problems.error("contradiction", _key(node, "rules"), "a rule has a verdict or rules, not both")
        if not keys & {"verdict", "rules", *ACTIONS}:
            problems.error(
                "missing-key", node, f"a rule that does nothing: expected verdict, rules, or {', '.join(ACTIONS)}"
            )
        if document.scope is RuleScope.FLOW and "verdict" not in keys:
            problems.error("missing-key", _key(node, "scope"), "scope flow needs a verdict in the same rule")

    def _id(self, document: RuleDocument) -> str:
        at, key = document.node.at, document.node.get("id")
        if document.id is None or key is None:
            if isinstance(key, Scalar):  # a wrong one was reported, and tests may name it
                self.ids.setdefault(key.text, key.at)
            return self._made(at)
        if document.id in RESERVED:
            message = f"id {document.id!r} means a reason in tests: expected another"
            self.scope.problems.error("ambiguous-name", key, message)
        elif document.id in self.ids:
            message = f"id {document.id!r} already stands at {self.ids[document.id]}"
            self.scope.problems.error("duplicate-id", key, message)
        else:
            self.ids[document.id] = key.at
        return document.id

    def _made(self, at: Position) -> str:
        """An id from a position. It has a colon, which a written one cannot have."""
        name = f"{at.file.removeprefix(self.prefix)}:{at.line}"
        if name in self.ids:
            name = f"{name}:{at.column}"
        if name in self.ids:
            self.scope.problems.add("duplicate-id", at, "this rule stands in several places: expected one")
        self.ids[name] = at
        return name


def _key(node: Mapping, name: str) -> Node:
    return next(key for key, _ in node.entries if key.text == name)

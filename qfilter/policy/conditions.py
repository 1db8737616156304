"""`match:` mappings: keys are ANDed in file order, lists are ORed, `any`, `all` and `not` combine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qfilter import predicates
from qfilter.errors import Position
from qfilter.fields import FIELDS, MAX_DEPTH, Layer
from qfilter.model.hook import Hook
from qfilter.model.rule import (
    AllOf,
    AnyOf,
    Base,
    BytesTest,
    Condition,
    FieldTest,
    NotOf,
    Predicate,
    PythonTest,
    ScapyTest,
)
from qfilter.policy import contradictions, plugins
from qfilter.policy.actions import RULE_KEYS
from qfilter.policy.comparisons import any_of, parse_hex, parse_value
from qfilter.policy.foreign import field_meant
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import Problems, nearest
from qfilter.policy.scope import Scope
from qfilter.policy.values import (
    Numbers,
    describe,
    number_of,
    quoted,
    resolved,
    text_of,
)
from qfilter.scapy_layers import UnknownScapyError, resolve

BLOCKS = ("any", "all", "not")
SPECIAL = ("bytes", "python")
"""Keys that are no fields and have a syntax of their own."""

_OFFSET = Numbers("offset", 0, 0xFFFF)


def parse_match(
    node: Node, scope: Scope, hooks: Iterable[Hook] = (), outer: Iterable[Condition] = ()
) -> Condition | None:
    """The condition of a rule, or None after problems; never raises.

    `hooks` are those that the rule is limited to, empty for any; `outer` are the matches of the rules around it. Both
    only serve to report contradictions.
    """
    condition = _block(node, scope)
    if condition is not None:
        contradictions.check(condition, scope.problems, hooks, outer)
    return condition


def _block(node: Node, scope: Scope) -> AllOf | None:
    """One match mapping, or a reference to one."""
    found = resolved(node, scope, "a mapping of fields")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        scope.problems.error("wrong-type", found, f"{describe(found)}: expected a mapping of fields to values")
        return None
    conditions = [_entry(key, value, scope) for key, value in found.entries]
    good = tuple(condition for condition in conditions if condition is not None)
    return AllOf(good) if len(good) == len(conditions) else None


def _entry(key: Scalar, value: Node, scope: Scope) -> Condition | None:
    name = key.text
    if name in BLOCKS:
        return _combination(name, value, scope)
    if name == "bytes":
        return _alternatives(value, scope, lambda one: _bytes(one, key.at, scope))
    if name == "python":
        return _alternatives(value, scope, lambda one: _python(one, key.at, scope))
    if name.startswith("scapy."):
        return _scapy(key, value, scope)
    return _field(key, value, scope)


def _combination(name: str, node: Node, scope: Scope) -> Condition | None:
    found = resolved(node, scope, "a list of mappings")
    if found is None:
        return None
    if not isinstance(found, Sequence):
        if name == "any":
            message = f"any: {describe(found)}: expected a list; the keys of one mapping must all hold"
            scope.problems.error("wrong-type", found, message)
            return None
        block = _block(found, scope)
        return NotOf(_only(block)) if name == "not" and block is not None else block
    if not found.items:
        scope.problems.error("bad-value", found, f"{name}: the list is empty: expected a mapping of fields to values")
        return None
    blocks = [_block(item, scope) for item in found.items]
    good = tuple(_only(block) for block in blocks if block is not None)
    if len(good) < len(blocks):
        return None
    if name == "all":
        return AllOf(good)
    return NotOf(AnyOf(good)) if name == "not" else AnyOf(good)


def _only(block: AllOf) -> Condition:
    """A mapping with one key is that key's condition."""
    return block.conditions[0] if len(block.conditions) == 1 else block


def _alternatives(node: Node, scope: Scope, parse: Callable[[Node], Condition | None]) -> Condition | None:
    """One condition, or a list of which one must hold."""
    found = resolved(node, scope, "a value or a list")
    if not isinstance(found, Sequence):
        return None if found is None else parse(found)
    if not found.items:
        scope.problems.error("bad-value", found, "the list is empty: expected a value")
    conditions = [_alternatives(item, scope, parse) for item in found.items]
    good = tuple(condition for condition in conditions if condition is not None)
    return AnyOf(good) if good and len(good) == len(conditions) else None


# Fields


def _field(key: Scalar, node: Node, scope: Scope) -> Condition | None:
    name, depth = key.text, 0
    while name.startswith("inner."):
        name, depth = name.removeprefix("inner."), depth + 1
    row = FIELDS.get(name)
    if row is None:
        _unknown_field(key, name, scope)
        return None
    if depth > MAX_DEPTH:
        message = f"{depth} times 'inner.': expected at most {MAX_DEPTH}"
        scope.problems.error("out-of-range", key, message)
        return None
    if depth and row.layer is Layer.META:
        message = f"{key.text!r}: {name} is of the packet as a whole, not of one inside a tunnel: expected {name!r}"
        scope.problems.error("unknown-field", key, message, suggestion=name)
        return None
    match = parse_value(row, node, scope)
    return None if match is None else FieldTest(name, match, key.at, depth)


def _unknown_field(key: Scalar, name: str, scope: Scope) -> None:
    inner = key.text.removesuffix(name)
    message, suggestion = f"unknown field {quoted(key.text)}: expected a field (`qfilter fields` lists them)", None
    if name in RULE_KEYS:
        message = f"{name} is a key of the rule, not a field: indent it less, as `match` itself"
    else:
        meant = field_meant(name, () if inner else (*BLOCKS, *SPECIAL))
        suggestion = None if meant is None else inner + meant
    scope.problems.error("unknown-field", key, message, suggestion=suggestion)


def _scapy(key: Scalar, node: Node, scope: Scope) -> Condition | None:
    layer, _, field = key.text.removeprefix("scapy.").partition(".")
    try:
        rows = resolve(layer, field)
    except UnknownScapyError as error:
        prefix = "" if error.suggestion is None else f"scapy.{error.suggestion}"
        scope.problems.error(error.kind, key, str(error), suggestion=prefix or None)
        return None
    if len(rows) == 1:
        match = parse_value(rows[0], node, scope)
        return None if match is None else ScapyTest(layer, field, match, key.at)
    # The field holds numbers in some packets and texts in others: what the policy says may be either.
    attempts = []
    for row in rows:
        silent = Scope(Problems(), scope.folder, scope.defines, scope.sets, scope.used)
        attempts.append((parse_value(row, node, silent), silent.problems))
    matches = [match for match, _ in attempts if match is not None]
    if matches:
        return ScapyTest(layer, field, any_of(matches), key.at)
    for problem in attempts[-1][1].found:
        scope.problems.add(
            problem.kind, problem.at, problem.message, width=problem.width, suggestion=problem.suggestion
        )
    return None


# Bytes and Python


def _bytes(node: Node, at: Position, scope: Scope, *, negated: bool = False) -> Condition | None:
    if not isinstance(node, Mapping):
        message = f"{describe(node)}: expected a mapping with base, offset and value"
        scope.problems.error("wrong-type", node, message)
        return None
    inverted = node.get("not")
    if inverted is not None and len(node.entries) == 1 and not negated:
        return _not_bytes(inverted, at, scope)
    keys = ("base", "offset", "value", "mask")
    unknown = [key for key, _ in node.entries if key.text not in keys]
    for key in unknown:
        message = f"unknown key {quoted(key.text)}: expected one of {', '.join(keys)}"
        scope.problems.error("unknown-key", key, message, suggestion=nearest(key.text, keys))
    missing = [name for name in keys[:3] if node.get(name) is None]
    if missing:
        message = f"bytes without {' and '.join(missing)}: expected base, offset and value"
        scope.problems.error("missing-key", node, message)
    values = {key.text: value for key, value in node.entries}
    base = _base(values["base"], scope) if "base" in values else None
    offset = number_of(values["offset"], _OFFSET, scope) if "offset" in values else None
    value = parse_hex(values["value"], scope) if "value" in values else None
    mask = parse_hex(values["mask"], scope) if "mask" in values else b"\xff" * len(value or b"")
    if unknown or base is None or offset is None or value is None or mask is None:
        return None
    if len(mask) != len(value):
        message = f"mask of {len(mask)} bytes: expected the {len(value)} of the value"
        scope.problems.error("bad-value", values["mask"], message)
        return None
    if any(byte & ~bits for byte, bits in zip(value, mask, strict=True)):
        message = "bits of the value are outside the mask, so nothing matches: expected a value within it"
        scope.problems.error("contradiction", values["value"], message)
        return None
    return BytesTest(base, offset, value, mask, at, negated)


def _not_bytes(node: Node, at: Position, scope: Scope) -> Condition | None:
    """`not` of a value: the bytes are there, and are none of these."""
    found = resolved(node, scope, "a mapping or a list")
    if not isinstance(found, Sequence):
        return None if found is None else _bytes(found, at, scope, negated=True)
    tests = [_not_bytes(item, at, scope) for item in found.items]
    good = tuple(test for test in tests if test is not None)
    if not tests:
        scope.problems.error("bad-value", found, "the list is empty: expected a mapping with base, offset and value")
    return AllOf(good) if good and len(good) == len(tests) else None


def _base(node: Node, scope: Scope) -> Base | None:
    expected = ", ".join(Base)
    text = text_of(node, scope, f"one of {expected}")
    if text is None or text in tuple(Base):
        return None if text is None else Base(text)
    scope.problems.error(
        "unknown-name", node, f"base {quoted(text)}: expected one of {expected}", suggestion=nearest(text, Base)
    )
    return None


def _python(node: Node, at: Position, scope: Scope) -> Condition | None:
    text = text_of(node, scope, "module:function or the name of a predicate")
    if text is None:
        return None
    found = plugins.load(text, node, scope) if ":" in text else _registered(text, node, scope)
    return None if found is None else PythonTest(found, at)


def _registered(name: str, node: Node, scope: Scope) -> Predicate | None:
    found = scope.predicates.get(name) or predicates.find(name)
    if found is None:
        message = f"predicate {quoted(name)}: expected module:function or a registered name"
        suggestion = nearest(name, (*scope.predicates, *predicates.names()))
        scope.problems.error("unknown-name", node, message, suggestion=suggestion)
    return found

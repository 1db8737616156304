"""What a rule does: its verdict, its actions in file order, and its limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from qfilter.fields import FIELDS
from qfilter.model.policy import SetDefinition
from qfilter.model.rule import Action, Capture, Count, Limit, Log, SetMark, SetOperation, UpdateSet
from qfilter.model.verdict import Decision, Kind, RejectWith
from qfilter.policy.comparisons import check_set
from qfilter.policy.foreign import verdict_meant
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import nearest
from qfilter.policy.scope import Scope
from qfilter.policy.values import (
    Numbers,
    describe,
    number_of,
    parse_duration,
    parse_size,
    quoted,
    resolved,
    scalar_of,
    text_of,
)

DEFAULT_BURST = 5
"""Packets; nftables' default."""

_ALL_BITS = 0xFFFF_FFFF
_QUEUE = Numbers("queue", 0, 0xFFFF)
_MARK = Numbers.of(FIELDS["mark"])
_BURST = Numbers("burst", 1, 1_000_000_000)
_RATE = Numbers("rate", 1, 1_000_000_000)
_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.pcapng")
_MAX_PREFIX = 128
"""Characters."""

# Verdicts

_VERDICT = "accept, drop, reject, {reject: tcp-reset}, {queue: 1} or repeat"


def parse_verdict(node: Node, scope: Scope) -> Decision | None:
    """`accept`, `drop`, `reject`, `reject tcp-reset`, `{reject: tcp-reset}`, `{queue: 1}`, `repeat`."""
    found = resolved(node, scope, _VERDICT)
    if isinstance(found, Mapping) and len(found.entries) == 1:
        ((key, argument),) = found.entries
        return _decision(key.text, key, argument, scope)
    text = None if found is None else text_of(found, scope, _VERDICT)
    if text is None or not isinstance(found, Scalar):
        return None
    kind, _, words = text.partition(" ")
    words = words.strip()
    return _decision(kind, found, Scalar(words, words, found.at, found.width) if words else None, scope)


def _decision(text: str, node: Node, argument: Node | None, scope: Scope) -> Decision | None:
    if text not in tuple(Kind):
        message = f"verdict {quoted(text)}: expected {_VERDICT}"
        scope.problems.error("unknown-name", node, message, suggestion=verdict_meant(text))
        return None
    kind = Kind(text)
    if kind is Kind.REJECT:
        code = RejectWith.PORT_UNREACHABLE if argument is None else _reject_code(argument, scope)
        return None if code is None else Decision(kind, reject=code)
    if kind is Kind.QUEUE:
        if argument is None:
            scope.problems.error("missing-key", node, "verdict queue: expected a number, such as {queue: 1}")
            return None
        number = number_of(argument, _QUEUE, scope)
        return None if number is None else Decision(kind, queue=number)
    if argument is not None:
        scope.problems.error("wrong-type", argument, f"verdict {text} takes no argument: expected {text!r}")
        return None
    return Decision(kind)


def _reject_code(node: Node, scope: Scope) -> RejectWith | None:
    expected = f"one of {', '.join(RejectWith)}"
    text = text_of(node, scope, expected)
    if text is None or text in tuple(RejectWith):
        return None if text is None else RejectWith(text)
    message = f"reject {quoted(text)}: expected {expected}"
    scope.problems.error("unknown-name", node, message, suggestion=nearest(text, RejectWith))
    return None


# Actions


def parse_actions(rule: Mapping, scope: Scope) -> tuple[Action, ...]:
    """The actions among a rule's keys, in file order; those with problems are reported and left out."""
    actions = (_ACTIONS[key.text](node, scope) for key, node in rule.entries if key.text in _ACTIONS)
    return tuple(action for action in actions if action is not None)


def _log(node: Node, scope: Scope) -> Action | None:
    expected = "true, false, or {prefix: text}"
    found = resolved(node, scope, expected)
    if isinstance(found, Scalar) and isinstance(found.value, bool):
        return Log() if found.value else None
    entries = None if found is None else _entries(found, scope, expected, required=("prefix",))
    prefix = None if entries is None else text_of(entries["prefix"], scope, "a text")
    if prefix is None:
        return None
    if len(prefix) > _MAX_PREFIX or not prefix.isprintable():
        message = f"prefix {quoted(prefix)}: expected at most {_MAX_PREFIX} printable characters"
        scope.problems.error("bad-value", node, message)
        return None
    return Log(prefix)


def _count(node: Node, scope: Scope) -> Action | None:
    name = text_of(node, scope, "the name of a counter")
    if name is None:
        return None
    if not _NAME.fullmatch(name):
        message = f"counter {quoted(name)}: expected 1 to 64 letters, digits, '_', '.' or '-'"
        scope.problems.error("bad-value", node, message)
        return None
    return Count(name)


def _mark(node: Node, scope: Scope) -> Action | None:
    found = resolved(node, scope, "a number, or {set: 0x1, mask: 0xff}")
    if not isinstance(found, Mapping):
        number = None if found is None else number_of(found, _MARK, scope)
        return None if number is None else SetMark(number, _ALL_BITS)
    entries = _entries(found, scope, "{set: 0x1, mask: 0xff}", required=("set",), optional=("mask",))
    if entries is None:
        return None
    value = number_of(entries["set"], _MARK, scope)
    mask = number_of(entries["mask"], _MARK, scope) if "mask" in entries else _ALL_BITS
    if value is None or mask is None:
        return None
    if value & ~mask or not mask:
        message = f"mark {value:#x} with mask {mask:#x}: expected a value within the mask, and a mask above 0"
        scope.problems.error("bad-value", entries["mask"], message)
        return None
    return SetMark(value, mask)


def _update(operation: SetOperation) -> Callable[[Node, Scope], Action | None]:
    optional = ("timeout",) if operation is SetOperation.ADD else ()

    def parse(node: Node, scope: Scope) -> Action | None:
        entries = _entries(node, scope, "{set: name, element: saddr}", required=("set", "element"), optional=optional)
        if entries is None:
            return None
        definition = scope.named_set(entries["set"])
        element = _field(entries["element"], scope)
        timeout = parse_duration(entries["timeout"], scope) if "timeout" in entries else None
        if definition is None or element is None or ("timeout" in entries and timeout is None):
            return None
        if not _takes(definition, element, entries, scope):
            return None
        return UpdateSet(operation, definition.name, element, timeout)

    return parse


def _takes(definition: SetDefinition, element: str, entries: dict[str, Node], scope: Scope) -> bool:
    """Whether values of a field can go into a set."""
    if not definition.dynamic:
        message = f"set {quoted(definition.name)} is not dynamic: expected a set with `dynamic: true`"
        scope.problems.error("wrong-type", entries["set"], message)
        return False
    return check_set(FIELDS[element], definition, entries["set"], scope)


def _capture(node: Node, scope: Scope) -> Action | None:
    entries = _entries(node, scope, "{file: name.pcapng, max: 10 MiB}", required=("file", "max"))
    if entries is None:
        return None
    file = text_of(entries["file"], scope, "the name of a file")
    limit = parse_size(entries["max"], scope)
    # The daemon runs as root and writes there: a name must not lead out of the folder for captures.
    if file is not None and not _FILE.fullmatch(file):
        message = f"file {quoted(file)}: expected a name without a path, such as attack.pcapng"
        scope.problems.error("bad-value", entries["file"], message)
        return None
    return None if file is None or limit is None else Capture(file, limit)


_ACTIONS: dict[str, Callable[[Node, Scope], Action | None]] = {
    "log": _log,
    "count": _count,
    "mark": _mark,
    "add": _update(SetOperation.ADD),
    "delete": _update(SetOperation.DELETE),
    "capture": _capture,
}
ACTIONS = tuple(_ACTIONS)
"""The keys of a rule that are actions."""
RULE_KEYS = ("id", "comment", "hook", "match", "limit", *ACTIONS, "verdict", "scope", "rules")
"""All keys of a rule."""


# Limits


def parse_limit(node: Node, scope: Scope) -> Limit | None:
    """`{rate: 10/second, burst: 20, per: saddr, over: true}`; None after a problem."""
    expected = "{rate: 10/second}"
    entries = _entries(node, scope, expected, required=("rate",), optional=("burst", "per", "over"))
    if entries is None:
        return None
    rate = _rate(entries["rate"], scope)
    burst = number_of(entries["burst"], _BURST, scope) if "burst" in entries else DEFAULT_BURST
    per = _per(entries["per"], scope) if "per" in entries else ()
    over = _boolean(entries["over"], scope) if "over" in entries else False
    if rate is None or burst is None or per is None or over is None:
        return None
    return Limit(rate[0], rate[1], burst, per, over)


def _rate(node: Node, scope: Scope) -> tuple[int, int] | None:
    expected = f"packets per {', '.join(_SECONDS)}, such as 10/second"
    scalar = scalar_of(node, scope, expected)
    if scalar is None:
        return None
    count, slash, unit = (part.strip() for part in scalar.text.partition("/"))
    if not slash or unit not in _SECONDS or not re.fullmatch(r"[0-9]{1,12}", count):
        meant = nearest(unit, _SECONDS) if unit not in _SECONDS else None
        message = f"rate {quoted(scalar.text)}: expected {expected}"
        scope.problems.error("bad-value", scalar, message, suggestion=meant and f"{count}/{meant}")
        return None
    number = number_of(Scalar(int(count), str(int(count)), scalar.at, scalar.width), _RATE, scope)
    return None if number is None else (number, _SECONDS[unit])


def _per(node: Node, scope: Scope) -> tuple[str, ...] | None:
    found = resolved(node, scope, "a field or a list of fields")
    if found is None:
        return None
    names = [_field(item, scope) for item in (found.items if isinstance(found, Sequence) else (found,))]
    good = tuple(dict.fromkeys(name for name in names if name is not None))
    if not names:
        scope.problems.error("bad-value", found, "per: the list is empty: expected a field")
    return good if names and None not in names else None


def _boolean(node: Node, scope: Scope) -> bool | None:
    found = resolved(node, scope, "true or false")
    if isinstance(found, Scalar) and isinstance(found.value, bool):
        return found.value
    if found is not None:
        scope.problems.error("wrong-type", found, f"{describe(found)}: expected true or false")
    return None


def _field(node: Node, scope: Scope) -> str | None:
    name = text_of(node, scope, "the name of a field")
    if name is None or name in FIELDS:
        return name
    message = f"unknown field {quoted(name)}: expected a field (`qfilter fields` lists them)"
    scope.problems.error("unknown-field", node, message, suggestion=nearest(name, FIELDS))
    return None


def _entries(
    node: Node, scope: Scope, expected: str, *, required: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, Node] | None:
    """The entries of a mapping with these keys and no others, or None after problems."""
    found = resolved(node, scope, expected)
    if found is None:
        return None
    if not isinstance(found, Mapping):
        scope.problems.error("wrong-type", found, f"{describe(found)}: expected {expected}")
        return None
    known = (*required, *optional)
    entries = {key.text: value for key, value in found.entries}
    unknown = [key for key, _ in found.entries if key.text not in known]
    meant = [nearest(key.text, known) for key in unknown]
    for key, suggestion in zip(unknown, meant, strict=True):
        message = f"unknown key {quoted(key.text)}: expected {', '.join(known)}"
        scope.problems.error("unknown-key", key, message, suggestion=suggestion)
    missing = [name for name in required if name not in (*entries, *meant)]
    if missing:
        scope.problems.error("missing-key", found, f"{' and '.join(missing)} missing: expected {expected}")
    return None if unknown or missing else entries

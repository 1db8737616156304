"""What a policy says besides its rules: defaults, failures, the queue, and its tests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from qfilter.errors import Position
from qfilter.fields import BUILDABLE, FIELDS, Type
from qfilter.model.hook import Hook
from qfilter.model.marks import can_hand_back
from qfilter.model.policy import HookDefault, QueueSettings, Target, TestCase
from qfilter.model.verdict import CAUSES, Kind, Reason
from qfilter.policy.actions import parse_verdict
from qfilter.policy.comparisons import parse_hex
from qfilter.policy.document import DefaultsDocument, FailureDocument, PolicyDocument, QueueDocument, TestDocument
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import nearest
from qfilter.policy.rules import RESERVED
from qfilter.policy.scope import Scope
from qfilter.policy.values import describe, parse_duration, parse_size, resolved, scalar_of, text_of

_QUEUES = re.compile(r"([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?")


def defaults(document: DefaultsDocument | None, scope: Scope) -> dict[Hook, HookDefault]:
    """What each hook's packets get that no rule decided, in the order of Hook; None was reported where it stands."""
    found: dict[Hook, HookDefault] = {}
    if document is None:
        return found
    for hook in Hook:
        node = document.node.get(hook)
        decision = None if node is None else parse_verdict(node, scope)
        if node is None or decision is None:
            continue
        if decision.kind in (Kind.QUEUE, Kind.REPEAT):
            message = f"default {str(decision)!r}: expected accept, drop or reject"
            scope.problems.error("unknown-name", node, message)
        found[hook] = HookDefault(decision=decision, at=node.at)
    if not document.node.entries:
        scope.problems.error("missing-key", document.node, f"expected a default for at least one of {', '.join(Hook)}")
    return found


def whole(document: DefaultsDocument | None, found: Collection[Hook]) -> bool:
    """Whether these are the hooks that the policy means, for no mistake hides one."""
    return document is not None and len(found) == len(document.node.entries)


def on_failure(document: FailureDocument | None) -> dict[Reason, Kind]:
    """Accept or drop for each cause; drop where nothing is said."""
    return {cause: Kind(getattr(document, cause, Kind.DROP)) for cause in CAUSES}


def queue(document: QueueDocument | None, scope: Scope) -> QueueSettings:
    """`queue:`, whole or not there."""
    if document is None:
        return QueueSettings()
    first, last = (0, 0) if document.number is None else _numbers(document.number, scope)
    if document.target is Target.QUEUE and (first, last) != (0, 0):
        node = document.number or document.node
        scope.problems.error("contradiction", node, "target queue is always queue 0: expected number 0")
    if document.cpu_fanout and first == last:
        node = document.node.get("cpu_fanout") or document.node
        scope.problems.error("contradiction", node, "cpu_fanout needs several queues: expected number such as 0-3")
    mask = document.mark_mask
    if not can_hand_back(mask):
        node = document.node.get("mark_mask") or document.node
        scope.problems.error("bad-value", node, f"mark_mask {mask:#x}: expected four adjacent bits, such as 0xf0000000")
    return QueueSettings(
        first=first,
        last=last,
        target=document.target,
        backend=document.backend,
        length=document.length,
        copy_range=document.copy_range,
        socket_buffer=None if document.socket_buffer is None else parse_size(document.socket_buffer, scope),
        cpu_fanout=document.cpu_fanout,
        deadline=None if document.deadline is None else parse_duration(document.deadline, scope),
        exempt=tuple(dict.fromkeys(document.exempt)),
        mark_mask=mask,
    )


def _numbers(node: Node, scope: Scope) -> tuple[int, int]:
    expected = "a queue number, or a range such as 0-3"
    scalar = scalar_of(node, scope, expected)
    found = None if scalar is None else _QUEUES.fullmatch(scalar.text)
    if scalar is None or found is None:
        if scalar is not None:
            scope.problems.error("bad-value", node, f"{scalar.text!r}: expected {expected}")
        return 0, 0
    first, last = int(found[1]), int(found[2] or found[1])
    if max(first, last) > 0xFFFF:
        scope.problems.error("out-of-range", node, f"queue {max(first, last)}: expected 0 to 65535")
    elif last < first:
        scope.problems.error("reversed-range", node, f"range {scalar.text!r}: expected its end above its start")
    return first, last


def places(document: PolicyDocument) -> dict[str, Position]:
    """Where each value of `queue:` and `on_failure:` stands, by its path, such as `queue.target`."""
    sections = {"queue": document.queue, "on_failure": document.on_failure}
    return {
        f"{name}.{key.text}": value.at
        for name, section in sections.items()
        if section is not None
        for key, value in section.node.entries
    }


def case(document: TestDocument, rules: Collection[str], scope: Scope) -> TestCase | None:
    """One entry of `tests:`, or None after problems."""
    packet, *after = (dict(packet_fields(node, scope)) for node in (document.packet, *document.after))
    expect = parse_verdict(document.expect, scope)
    _check_by(document, rules, scope)
    if expect is None or any(each.get("hook") not in tuple(Hook) for each in (packet, *after)):
        return None
    exact = expect.kind is not Kind.REJECT or not _says_only(document.expect, Kind.REJECT, scope)
    return TestCase(
        at=document.node.at,
        packet=packet,
        expect=expect,
        exact=exact,
        by=document.by,
        after=tuple(after),
        times=document.times,
    )


def packet_fields(node: Node, scope: Scope, *, needs_hook: bool = True) -> Iterator[tuple[str, object]]:
    """A packet by its fields, checked to be names that one can be built from; of values, only their form."""
    found = resolved(node, scope, "a packet by its fields")
    if not isinstance(found, Mapping):
        if found is not None:
            scope.problems.error("wrong-type", node, f"{describe(found)}: expected a packet by its fields")
        return
    for key, child in found.entries:
        if key.text in BUILDABLE:
            yield key.text, _bytes(child, scope) if FIELDS[key.text].type is Type.BYTES else _plain(child, scope)
        else:
            message = f"{key.text!r} is not a field that a packet can be built from"
            scope.problems.error("unknown-field", key, message, suggestion=nearest(key.text, BUILDABLE))
    hook = found.get("hook")
    if hook is None:
        if needs_hook:
            scope.problems.error("missing-key", found, f"a packet needs a hook: expected one of {', '.join(Hook)}")
        return
    name = text_of(hook, scope, "a hook")
    if name is not None and name not in tuple(Hook):
        message = f"hook {name!r}: expected one of {', '.join(Hook)}"
        scope.problems.error("unknown-name", hook, message, suggestion=nearest(name, Hook))


def _bytes(node: Node, scope: Scope) -> object:
    """Text, or `{hex: 'de ad'}`."""
    found = scope.resolve(node)
    if not isinstance(found, Mapping):
        return _plain(node, scope)
    digits = found.get("hex")
    if digits is None or len(found.entries) > 1:
        scope.problems.error("wrong-type", node, "a mapping: expected a text, or {hex: 'de ad'}")
        return None
    value = parse_hex(digits, scope)
    return None if value is None else {"hex": value.hex()}


def _plain(node: Node, scope: Scope) -> object:
    """A value as written: a text, a number, or a list of them."""
    found = resolved(node, scope, "a value")
    if isinstance(found, Sequence):
        return [_plain(item, scope) for item in found.items]
    if isinstance(found, Mapping):
        scope.problems.error("wrong-type", node, "a mapping: expected a value, or a list of values")
    return found.value if isinstance(found, Scalar) else None


def _says_only(node: Node, word: str, scope: Scope) -> bool:
    """Whether a verdict is that word alone."""
    found = scope.resolve(node)
    return isinstance(found, Scalar) and found.text == word


def _check_by(document: TestDocument, rules: Collection[str], scope: Scope) -> None:
    if document.by is None or document.by in rules or document.by in RESERVED:
        return
    node = document.node.get("by") or document.node
    known = (*rules, *RESERVED)
    message = f"{document.by!r} decides nothing: expected a rule's id, default or a failure cause"
    scope.problems.error("undefined", node, message, suggestion=nearest(document.by, known))

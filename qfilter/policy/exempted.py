"""Rules for contents or rates of UDP that see only the first packets, because `queue.exempt` has `established`.

Connection tracking calls what belongs to an answered UDP exchange established (nf_conntrack_proto_udp.c): from then on
the packets of these two ends pass by the queue, whatever they carry and however many they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from qfilter.fields import FIELDS
from qfilter.model.match import Ranges
from qfilter.model.policy import Exempt, QueueSettings
from qfilter.model.rule import AllOf, AnyOf, Condition, FieldTest, NotOf, Rule, ScapyTest, Scope
from qfilter.policy.contradictions import conjunction
from qfilter.policy.problems import Problems

_UDP = Ranges(((17, 17),))
_HEADERS = ("IP", "IPv6", "UDP")


def check(rules: tuple[Rule, ...], queue: QueueSettings, problems: Problems, *, udp: bool = False) -> None:
    """Warn about them. `udp` says whether the rules around these take only UDP."""
    if Exempt.ESTABLISHED not in queue.exempt:
        return
    for rule in rules:
        only_udp = udp or _only_udp(rule.match)
        if only_udp and rule.scope is not Scope.FLOW and _wants_all(rule):
            message = f"rule {rule.id!r} sees no later packets of a tracked connection: `queue.exempt` has established"
            problems.add("exempt-blind", rule.at, message, severity="warning")
        check(rule.rules, queue, problems, udp=only_udp)


def _only_udp(condition: Condition) -> bool:
    tests = (part for part in conjunction(condition) if isinstance(part, FieldTest))
    return any((test.field, test.depth, test.match) == ("protocol", 0, _UDP) for test in tests)


def _wants_all(rule: Rule) -> bool:
    """Whether the later packets matter to a rule: by what they carry, or by how many they are for each sender."""
    return any(map(_is_content, _tests(rule.match))) or (rule.limit is not None and bool(rule.limit.per))


def _is_content(test: Condition) -> bool:
    if isinstance(test, ScapyTest):
        return test.layer not in _HEADERS
    return isinstance(test, FieldTest) and FIELDS[test.field].needs_payload


def _tests(condition: Condition) -> Iterator[Condition]:
    match condition:
        case AllOf(conditions) | AnyOf(conditions):
            for inner in conditions:
                yield from _tests(inner)
        case NotOf(inner):
            yield from _tests(inner)
        case _:
            yield condition

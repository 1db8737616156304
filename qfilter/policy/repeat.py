"""A verdict `repeat` sends the packet through the hook again: only its mark can keep it from going round for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from qfilter.errors import Position
from qfilter.model.match import AllMatch, AnyBit, AnyMatch, Masked, Match, NotMatch, Ranges
from qfilter.model.rule import AllOf, Condition, FieldTest, Rule, SetMark
from qfilter.model.verdict import Kind
from qfilter.policy.problems import Problems

_BITS = 32
_LAST = (1 << _BITS) - 1


def check(rules: Iterable[Rule], problems: Problems, unread: Collection[Position] = ()) -> None:
    """Report every rule whose verdict is `repeat` and whose mark does not end it.

    Of the rules at `unread` the match is not known, and may end those inside them too.
    """
    _check(rules, [], [], problems, unread)


def _check(
    rules: Iterable[Rule],
    around: list[Rule],
    earlier: list[SetMark],
    problems: Problems,
    unread: Collection[Position],
) -> None:
    """`earlier` are the mark actions of all rules that are evaluated before; those of these rules are added."""
    for rule in rules:
        path = [*around, rule]
        ends = any(one.at in unread for one in path) or repeat_guard(path, earlier)
        if rule.verdict is not None and rule.verdict.kind is Kind.REPEAT and not ends:
            message = f"rule {rule.id!r} repeats for ever: expected a `mark` action, and a `mark` in its match"
            problems.add("repeat-loop", rule.at, f"{message} that the new mark no longer meets")
        earlier.extend(_set_marks(rule))
        _check(rule.rules, path, earlier, problems, unread)


def repeat_guard(path: Sequence[Rule], earlier: Iterable[SetMark]) -> bool:
    """Whether a rule with the verdict `repeat` ends: some mark meets its match, and none that its actions leave does.

    `path` is the rule behind the rules around it; all of their matches must hold. `earlier` are the mark actions that
    may change the mark again when the packet comes back, before it reaches the rule.
    """
    value = mask = 0
    for action in (action for rule in path for action in _set_marks(rule)):
        value, mask = value & ~action.mask | action.value, mask | action.mask
    for action in earlier:
        mask &= ~(action.mask & (action.value ^ value))
    tests = [test.match for rule in path for test in _marks(rule.match)]
    return any(_never(test, value, mask) for test in tests) and not any(_never(test, 0, 0) for test in tests)


def _set_marks(rule: Rule) -> list[SetMark]:
    return [action for action in rule.actions if isinstance(action, SetMark)]


def _marks(condition: Condition) -> Iterator[FieldTest]:
    if isinstance(condition, AllOf):
        for part in condition.conditions:
            yield from _marks(part)
    elif isinstance(condition, FieldTest) and condition.field == "mark" and condition.depth == 0:
        yield condition


def _never(match: Match, value: int, mask: int) -> bool:
    """True when certainly no 32-bit number with these bits under the mask matches."""
    match match:
        case Ranges(ranges):
            return not any(_has(low, high, value, mask) for low, high in ranges)
        case Masked(wanted, bits):
            return bool(wanted & ~bits or (wanted ^ value) & bits & mask)
        case AnyBit(bits):
            return not value & bits and not bits & ~mask
        case NotMatch(inner):
            return _always(inner, value, mask)
        case AnyMatch(matches):
            return all(_never(one, value, mask) for one in matches)
        case AllMatch(matches):
            return any(_never(one, value, mask) for one in matches)
    return False


def _always(match: Match, value: int, mask: int) -> bool:
    """True when certainly every 32-bit number with these bits under the mask matches."""
    match match:
        case Ranges(ranges):
            starts = (0, *(high + 1 for _, high in ranges))
            ends = (*(low - 1 for low, _ in ranges), _LAST)
            return not any(_has(low, high, value, mask) for low, high in zip(starts, ends, strict=True))
        case Masked(wanted, bits):
            return not bits & ~mask and value & bits == wanted
        case AnyBit(bits):
            return bool(value & mask & bits)
        case NotMatch(inner):
            return _never(inner, value, mask)
        case AnyMatch(matches):
            return any(_always(one, value, mask) for one in matches)
        case AllMatch(matches):
            return all(_always(one, value, mask) for one in matches)
    return False


def _has(low: int, high: int, value: int, mask: int) -> bool:
    """Whether a number from low to high has these bits under the mask.

    The least such number that is not below `low` either is `low`, or shares its bits above some bit that is 0 in `low`
    and 1 in the number, whose lower bits are then as small as the mask lets them be.
    """
    value &= mask
    if low > high:
        return False
    if low & mask == value:
        return True
    for bit in range(_BITS):
        upper = ~((1 << bit + 1) - 1)
        free_or_one = not mask >> bit & 1 or value >> bit & 1
        if not low >> bit & 1 and free_or_one and (low ^ value) & mask & upper == 0:
            return (low & upper) | 1 << bit | value & ~upper & ~(1 << bit) <= high
    return False

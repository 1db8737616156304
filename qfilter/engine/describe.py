"""Conditions, values and verdicts in words, as an operator would write them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, summarize_address_range

from qfilter.engine.value import ABSENT, Partial, Unknown, Value
from qfilter.errors import words_of
from qfilter.fields import FIELDS
from qfilter.model.match import (
    Addresses,
    AllMatch,
    AnyBit,
    AnyMatch,
    InSet,
    Masked,
    Match,
    NotMatch,
    Ranges,
    Text,
    TextLength,
)
from qfilter.model.rule import AllOf, AnyOf, BytesTest, Condition, FieldTest, NotOf, PythonTest, ScapyTest
from qfilter.text import escaped

_MOST = 8
"""Elements of a list that are shown."""
_BYTES = 48
"""Bytes of a text that are shown."""
_WORDS = 200
"""Characters of foreign words that are shown."""


def condition(what: Condition) -> str:
    """A condition, such as `dport 22, 80-90`."""
    match what:
        case FieldTest(field, match):
            return f"{subject(what)} {value_test(match, field)}"
        case ScapyTest(_, _, match):
            return f"{subject(what)} {value_test(match)}"
        case BytesTest(_, _, value, mask, _, negated):
            masked = "" if all(byte == 0xFF for byte in mask) else f" mask {mask.hex(' ')}"
            return f"{subject(what)}{masked} {'not ' if negated else ''}{value.hex(' ')}"
        case PythonTest(predicate):
            return f"python {predicate.name}"
        case AllOf(parts):
            return " and ".join(map(condition, parts)) or "every packet"
        case AnyOf(parts):
            return f"any of ({'; '.join(map(condition, parts))})"
        case NotOf(inner):
            return f"not ({condition(inner)})"


def subject(what: FieldTest | ScapyTest | BytesTest) -> str:
    """What a condition looks at, such as `inner.dport`."""
    match what:
        case FieldTest(field, _, _, depth):
            return "inner." * depth + field
        case ScapyTest(layer, field):
            return f"scapy.{layer}.{field}"
        case BytesTest(base, offset):
            return f"bytes at {base}+{offset}"


def value_test(match: Match, field: str = "") -> str:
    """What a value must be, such as `22, 80-90` or `not 192.0.2.0/24`."""
    names = _names(field)
    match match:
        case Ranges(ranges):
            return _listed(_range(low, high, names) for low, high in ranges)
        case Addresses(v4, v6):
            return _listed(
                [_network(IPv4Address(low), IPv4Address(high)) for low, high in v4[:_MOST]]
                + [_network(IPv6Address(low), IPv6Address(high)) for low, high in v6[:_MOST]],
                len(v4) + len(v6),
            )
        case Masked(value, mask):
            return f"{_bits(value, field)} / {_bits(mask, field)}"
        case AnyBit(bits):
            return _bits(bits, field)
        case Text(test, pattern):
            return f"{test} {text(pattern)}"
        case TextLength(ranges):
            return f"length {_listed(_range(low, high, {}) for low, high in ranges)}"
        case InSet(name):
            return f"in ${name}"
        case NotMatch(inner):
            return f"not {value_test(inner, field)}"
        case AnyMatch(inners):
            return _listed(value_test(inner, field) for inner in inners)
        case AllMatch(inners):
            return " and ".join(value_test(inner, field) for inner in inners)


def value(what: Value, field: str = "") -> str:
    """A field's value, absent or unknown."""
    if what is ABSENT:
        return "absent"
    if isinstance(what, Unknown):
        return f"unknown ({what.reason}: {what.detail})"
    if isinstance(what, Partial):
        return f"{value(what.known, field)}... (cut: {what.rest.reason})"
    if isinstance(what, tuple):
        return f"[{', '.join(value(one, field) for one in what)}]"
    if isinstance(what, bytes | str):
        return text(what)
    if isinstance(what, int):
        return _bits(what, field) if field == "tcp.flags" else _range(what, what, _names(field))
    return str(what)


def text(raw: bytes | str) -> str:
    """Text in quotes: nothing in it can move a terminal's cursor."""
    raw = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
    shown = raw[:_BYTES].decode("latin-1").encode("ascii", "backslashreplace").decode()
    printable = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)
    return f"'{printable}'" + (f"... ({len(raw)} bytes)" if len(raw) > _BYTES else "")


def printable(words: str) -> str:
    """Words of foreign code, on one line and bounded: nothing in them can move a terminal's cursor."""
    return escaped(words[:_WORDS]) + ("..." if len(words) > _WORDS else "")


def in_words(error: BaseException) -> str:
    """An exception as the detail of the cause `error`."""
    return printable(f"{type(error).__name__}: {words_of(error)}")


def _names(field: str) -> dict[int, str]:
    row = FIELDS.get(field)
    names: dict[int, str] = {}
    if row and field not in ("sport", "dport"):
        for name, number in row.names.items():
            names.setdefault(number, name)
    return names


def _range(low: int, high: int, names: dict[int, str]) -> str:
    return names.get(low, str(low)) if low == high else f"{low}-{high}"


def _bits(bits: int, field: str) -> str:
    if field != "tcp.flags":
        return hex(bits)
    named = [name for name, bit in FIELDS[field].names.items() if bits & bit]
    return ",".join(named) or "none"


def _network(low: IPv4Address | IPv6Address, high: IPv4Address | IPv6Address) -> str:
    if low == high:
        return str(low)
    networks = list(summarize_address_range(low, high))
    return str(networks[0]) if len(networks) == 1 else f"{low}-{high}"


def _listed(words: Iterable[str], total: int | None = None) -> str:
    every = list(words)
    more = (total or len(every)) - min(len(every), _MOST)
    return ", ".join(every[:_MOST]) + (f" and {more} more" if more > 0 else "") or "nothing"

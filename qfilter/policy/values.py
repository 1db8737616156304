"""Single values: what a text of the policy means as an address, a number, a set's elements, a duration or a size.

The functions that take a text raise BadValueError, for readers that know its place; those that take a node report.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from qfilter.fields import FIELDS, PORTS, Family, Field
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition, SetType, Strings
from qfilter.model.spans import Pair
from qfilter.names import Names, protocols, services
from qfilter.policy.native import AddressList
from qfilter.policy.node import Mapping as MappingNode
from qfilter.policy.node import Node, Scalar, Sequence
from qfilter.policy.problems import nearest
from qfilter.policy.scope import Scope
from qfilter.policy.text import LINE_BREAK

MAX_STRING = 4_096
"""Bytes of one text in a comparison or a set."""


class BadValueError(ValueError):
    """A text that is not the value that it should be: `kind` is one of `kinds.KINDS`."""

    def __init__(self, kind: str, message: str, suggestion: str | None = None) -> None:
        self.kind = kind
        self.message = message
        self.suggestion = suggestion
        super().__init__(message)


class AddressRange(NamedTuple):
    """An inclusive range of addresses of one family, as integers."""

    family: Family
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers a place takes."""

    what: str
    """What messages call one, such as `port`."""
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)
    ambiguous: Names | None = None
    """Where names that mean several numbers are found."""

    @classmethod
    def of(cls, row: Field) -> Numbers:
        """The numbers of a field."""
        if row.protocols == PORTS:
            return cls("port", row.low, row.high, row.names, services())
        return cls(row.name, row.low, row.high, row.names, protocols() if row.name == "protocol" else None)

    @property
    def expected(self) -> str:
        """What a message says that this place takes."""
        return f"{self.low} to {self.high}" + (" or a name" if self.names else "")


PORT = Numbers.of(FIELDS["dport"])
NUMBER = Numbers("number", 0, (1 << 64) - 1)


def quoted(text: str) -> str:
    """A text as messages show it: in quotes, on one line, shortened."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def describe(node: Node) -> str:
    """What a node is, for messages about what it should have been."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, MappingNode):
        return "a mapping"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, str):
        return quoted(node.text)
    return f"the {'boolean' if isinstance(node.value, bool) else 'number'} {quoted(node.text)}"


def report(scope: Scope, node: Node, error: BadValueError) -> None:
    """Turn a bad value into a problem at its node."""
    scope.problems.error(error.kind, node, error.message, suggestion=error.suggestion)


def resolved(node: Node, scope: Scope, expected: str) -> Node | None:
    """What stands for a node; a set is reported, because only comparisons take sets."""
    found = scope.resolve(node)
    if isinstance(found, SetDefinition):
        scope.problems.error("wrong-type", node, f"set {quoted(found.name)}: expected {expected}")
        return None
    return found


def scalar_of(node: Node, scope: Scope, expected: str) -> Scalar | None:
    """The text or number that stands for a node, or None after a problem: lists, mappings, nothing and booleans."""
    found = resolved(node, scope, expected)
    if found is None:
        return None
    if isinstance(found, Scalar) and found.value is not None and not isinstance(found.value, bool):
        return found
    scope.problems.error("wrong-type", found, f"{describe(found)}: expected {expected}")
    return None


def text_of(node: Node, scope: Scope, expected: str) -> str | None:
    """A text; a plain number is refused, because YAML may have read it in another way than it looks."""
    scalar = scalar_of(node, scope, expected)
    if scalar is None:
        return None
    if not isinstance(scalar.value, str):
        message = f"{describe(scalar)}: expected {expected}; quotes make it a text"
        scope.problems.error("wrong-type", scalar, message, suggestion=f"'{scalar.text}'")
        return None
    if len(encode(scalar.value)) > MAX_STRING:
        scope.problems.error(
            "out-of-range", scalar, f"text {quoted(scalar.value)}: expected at most {MAX_STRING} bytes"
        )
        return None
    return scalar.value


def _too_long(text: str) -> BadValueError:
    return BadValueError("out-of-range", f"text {quoted(text)}: expected at most {MAX_STRING} bytes")


def encode(text: str) -> bytes:
    """A text as the bytes that packets are compared with: UTF-8, and what YAML's escapes made that UTF-8 has not."""
    return text.encode("utf-8", "surrogatepass")


def merge_ranges(ranges: Iterable[Pair]) -> tuple[Pair, ...]:
    """The same numbers in sorted ranges that do not touch."""
    merged: list[Pair] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


# Addresses

_ADDRESSES = "an IPv4 or IPv6 address, a prefix or a range"
_MAPPED = 0xFFFF << 32
"""::ffff:0:0, the first IPv4-mapped address (RFC 4291 section 2.5.5.2)."""
_MAPPED_END = _MAPPED + (1 << 32) - 1
_ALL_MAPPED = AddressRange(Family.IPV6, _MAPPED, _MAPPED_END)


def parse_address(text: str) -> AddressRange:
    """An address, a prefix or a range of addresses. Strict: no leading zeros, no zone, no host bits."""
    if "/" in text:
        found = _prefix(text)
    elif "-" in text:
        found = _address_range(text)
    else:
        family, number = _address(text)
        found = AddressRange(family, number, number)
    # No IPv4 packet carries such an address: a rule that names some of them is dead. All of them are a known bogon.
    if found.family is Family.IPV6 and found.low >= _MAPPED and found.high <= _MAPPED_END and found != _ALL_MAPPED:
        plain = str(IPv4Address(found.low - _MAPPED)) if found.low == found.high else None
        message = f"address {quoted(text)}: IPv4-mapped, which IPv4 packets do not have: expected the IPv4 form"
        raise BadValueError("bad-value", message, plain)
    return found


def _address(text: str) -> tuple[Family, int]:
    try:
        if ":" in text and "%" not in text:
            return Family.IPV6, int(IPv6Address(text))
        return Family.IPV4, int(IPv4Address(text))
    except ValueError:
        pass
    hint, suggestion = "", None
    if "%" in text:
        hint = " without a zone; the interface is `iifname`"
        suggestion = text.partition("%")[0]
    elif re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,10}){3}", text):
        octets = [int(octet) for octet in text.split(".")]
        hint = " of four numbers from 0 to 255 without leading zeros"
        suggestion = ".".join(map(str, octets)) if max(octets) < 256 else None
    raise BadValueError("bad-value", f"address {quoted(text)}: expected {_ADDRESSES}{hint}", suggestion)


def _prefix(text: str) -> AddressRange:
    base, _, length = text.partition("/")
    family, low = _address(base)
    bits = 32 if family is Family.IPV4 else 128
    if not re.fullmatch(r"[0-9]{1,4}", length):
        raise BadValueError("bad-value", f"prefix {quoted(text)}: expected a length of 0 to {bits}", _with_length(text))
    if int(length) > bits:
        raise BadValueError("out-of-range", f"prefix length {length}: expected 0 to {bits}")
    hosts = (1 << (bits - int(length))) - 1
    if low & hosts:
        network = (IPv4Network if bits == 32 else IPv6Network)((low & ~hosts, int(length)))
        message = (
            f"prefix {quoted(text)}: bits are set behind its length: expected {str(network)!r} or the address alone"
        )
        raise BadValueError("host-bits", message, str(network))
    return AddressRange(family, low, low | hosts)


def _with_length(text: str) -> str | None:
    """An IPv4 prefix whose length stands as a netmask, with the length as a number."""
    try:
        return str(IPv4Network(text, strict=False))
    except ValueError:
        return None


def _address_range(text: str) -> AddressRange:
    first, _, last = (part.strip() for part in text.partition("-"))
    (family, low), (other, high) = _address(first), _address(last)
    if family is not other:
        raise BadValueError("bad-value", f"range {quoted(text)}: expected two addresses of one family")
    if high < low:
        raise BadValueError(
            "reversed-range", f"range {quoted(text)}: expected its end above its start", f"{last}-{first}"
        )
    return AddressRange(family, low, high)


# Numbers

_INTEGER = r"[-+]?(?:0|[1-9][0-9]{0,39})|0x[0-9a-fA-F]{1,32}|0o[0-7]{1,43}"
_IS_INTEGER = re.compile(_INTEGER)
_IS_RANGE = re.compile(rf"({_INTEGER})\s*-\s*({_INTEGER})")


def parse_number(text: str, numbers: Numbers) -> int:
    """A number or the name of one."""
    number = _named(text, numbers)
    if number is None:
        if not _IS_INTEGER.fullmatch(text):
            raise _not_a_number(text, numbers)
        number = int(text, 0)
    if not numbers.low <= number <= numbers.high:
        raise BadValueError("out-of-range", f"{numbers.what} {text}: expected {numbers.low} to {numbers.high}")
    return number


def parse_range(text: str, numbers: Numbers) -> Pair:
    """A number, the name of one, or `low-high`."""
    found = None if text in numbers.names else _IS_RANGE.fullmatch(text)
    if found is None:
        number = parse_number(text, numbers)
        return number, number
    low, high = (parse_number(end, numbers) for end in found.groups())
    if high < low:
        raise _reversed(text, found[1], found[2])
    return low, high


def _reversed(text: str, first: str, last: str) -> BadValueError:
    return BadValueError("reversed-range", f"range {quoted(text)}: expected its end above its start", f"{last}-{first}")


def number_of(node: Node, numbers: Numbers, scope: Scope) -> int | None:
    """A number or the name of one, or None after a problem."""
    scalar = scalar_of(node, scope, numbers.expected)
    if scalar is None:
        return None
    try:
        return parse_number(scalar.text, numbers)
    except BadValueError as error:
        report(scope, scalar, error)
        return None


def _named(text: str, numbers: Numbers) -> int | None:
    names = numbers.names
    if text in names or _IS_INTEGER.fullmatch(text):
        return names.get(text)
    lower = text.lower()
    if lower in names:
        return names[lower]
    # Only scapy's names have capitals.
    return next((number for name, number in names.items() if name.lower() == lower), None)


def _not_a_number(text: str, numbers: Numbers) -> BadValueError:
    meanings = numbers.ambiguous.numbers(text) if numbers.ambiguous else ()
    if numbers.ambiguous and meanings:
        both = " and ".join(map(str, meanings))
        instead = " or ".join(dict.fromkeys(repr(numbers.ambiguous.name(number)) for number in meanings))
        return BadValueError("ambiguous-name", f"{numbers.what} {quoted(text)}: means {both}: expected {instead}")
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        digits = text.lstrip("+-0") or "0"
        message = f"{numbers.what} {quoted(text)}: starts with 0, which some read as octal: expected {digits[:40]!r}"
        return BadValueError("bad-value", message, digits[:40])
    if colon := re.fullmatch(r"([0-9]{1,10}) *: *([0-9]{1,10})", text):
        meant = f"{colon[1]}-{colon[2]}"
        return BadValueError("bad-value", f"{numbers.what} {quoted(text)}: a range is written {meant}", meant)
    kind = "unknown-name" if numbers.names else "bad-value"
    message = f"{numbers.what} {quoted(text)}: expected {numbers.expected}"
    return BadValueError(kind, message, nearest(text.lower(), numbers.names))


# Elements of sets


class Elements:
    """Collects the elements of a set from texts, be they items of a list or lines of a file."""

    def __init__(self, type: SetType) -> None:
        self._type = type
        self._addresses = AddressList()
        self._numbers: list[Pair] = []
        self._strings: set[bytes] = set()

    def add(self, text: str) -> None:
        """Add one element: an address, prefix or range; a port or number, or a range; a string."""
        if self._type is SetType.ADDRESS:
            found = parse_address(text)
            self._addresses.add(32 if found.family is Family.IPV4 else 128, found.low, found.high)
        elif self._type is SetType.STRING:
            if len(encode(text)) > MAX_STRING:
                raise _too_long(text)
            self._strings.add(encode(text))
        else:
            self._numbers.append(parse_range(text, PORT if self._type is SetType.PORT else NUMBER))

    def add_lines(self, text: bytes) -> Iterable[tuple[int, str]]:
        """Add the elements of a text, one a line; gives the lines, with their numbers, that are left to `add`."""
        if self._type is SetType.ADDRESS:
            return self._addresses.read(text)
        return enumerate(LINE_BREAK.split(text.decode("utf-8")), start=1)

    def build(self) -> Addresses | Ranges | Strings:
        """All that was added, sorted and merged."""
        if self._type is SetType.ADDRESS:
            return self._addresses.build()
        if self._type is SetType.STRING:
            return Strings(frozenset(self._strings))
        return Ranges(merge_ranges(self._numbers))


def parse_elements(type: SetType, node: Node, scope: Scope) -> Addresses | Ranges | Strings:
    """The elements of a set from a list, whose items may be references to more lists. Bad ones are reported."""
    elements = Elements(type)
    for item in flatten(node, scope):
        read = text_of if type is SetType.STRING else _text_or_number
        text = read(item, scope, f"an element of a set of type {type.value}")
        if text is not None:
            try:
                elements.add(text)
            except BadValueError as error:
                report(scope, item, error)
    return elements.build()


def flatten(node: Node, scope: Scope) -> Iterable[Node]:
    """The items of a list, those of lists that its items refer to among them. A single value is a list of one."""
    found = resolved(node, scope, "a list or a value")
    if isinstance(found, Sequence):
        for item in found.items:
            yield from flatten(item, scope)
    elif found is not None:
        yield found


def _text_or_number(node: Node, scope: Scope, expected: str) -> str | None:
    scalar = scalar_of(node, scope, expected)
    return None if scalar is None else scalar.text


# Durations and sizes

_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)
_MILLISECONDS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
MAX_DURATION = 366 * 86_400
"""Seconds."""

_SIZE = re.compile(r"(\d{1,15})\s*(?:([kKMG])(?:iB)?)?", re.ASCII)
_UNITS = {"k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MAX_SIZE = 1 << 40
"""Bytes."""


def parse_duration(node: Node, scope: Scope) -> float | None:
    """Seconds, above 0 to a year, from `90s`, `10m`, `1h30m`, `100ms` or a number of seconds; None after a problem."""
    scalar = scalar_of(node, scope, "a duration such as 10m")
    if scalar is None:
        return None
    try:
        if isinstance(scalar.value, int | float):
            return _duration(scalar.text, scalar.value)
        return read_duration(scalar.text)
    except BadValueError as error:
        report(scope, scalar, error)
        return None


def read_duration(text: str) -> float:
    """Seconds, above 0 to a year, from `90s`, `10m`, `1h30m` or `100ms`."""
    found = _DURATION.fullmatch(text)
    if found is None or not found[0]:
        raise BadValueError("bad-value", f"duration {quoted(text)}: expected such as 90s, 10m or 1h30m")
    counts = zip(found.groups(), _MILLISECONDS, strict=True)
    return _duration(text, sum(int(count or 0) * unit for count, unit in counts) / 1_000)


def _duration(text: str, seconds: float) -> float:
    if not 0 < seconds <= MAX_DURATION:  # which is false for what is no number
        raise BadValueError("out-of-range", f"duration {quoted(text)}: expected above 0 to 366d")
    return float(seconds)


def parse_size(node: Node, scope: Scope) -> int | None:
    """Bytes, 1 to 1 TiB, from `64k`, `10 MiB` or a number of bytes (k, M and G are binary); None after a problem."""
    scalar = scalar_of(node, scope, "a size such as 10 MiB")
    if scalar is None:
        return None
    found = _SIZE.fullmatch(scalar.text)
    if found is None:
        decimal = re.fullmatch(r"([0-9]{1,15}) ?([kKMG])[bB]", scalar.text)
        suggestion = f"{decimal[1]} {decimal[2].upper()}iB" if decimal else None
        message = f"size {quoted(scalar.text)}: expected such as 4096, 64 KiB or 10 MiB"
        scope.problems.error("bad-value", scalar, message, suggestion=suggestion)
        return None
    size = int(found[1]) * _UNITS.get(found[2] or "", 1)
    if not 0 < size <= MAX_SIZE:
        scope.problems.error("out-of-range", scalar, f"size {quoted(scalar.text)}: expected above 0 to 1024 GiB")
        return None
    return size

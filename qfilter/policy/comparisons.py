"""The value of a match key against its field: what a node may say there, as a Match."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from qfilter.fields import PORTS, Family, Field, Layer, Type
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
    TextTest,
)
from qfilter.model.policy import SetDefinition, SetType, Strings
from qfilter.model.spans import Pair
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import nearest
from qfilter.policy.scope import Scope, reference
from qfilter.policy.values import (
    BadValueError,
    Numbers,
    encode,
    merge_ranges,
    parse_address,
    parse_number,
    parse_range,
    quoted,
    report,
    scalar_of,
    text_of,
)
from qfilter.regex import compile_pattern

_ORDERS: dict[str, Callable[[int, Numbers], Pair]] = {
    "lt": lambda number, numbers: (numbers.low, number - 1),
    "le": lambda number, numbers: (numbers.low, number),
    "gt": lambda number, numbers: (number + 1, numbers.high),
    "ge": lambda number, numbers: (number, numbers.high),
}
_TEXT_TESTS = tuple(test.value for test in TextTest)
_TEXT_FORMS = (*_TEXT_TESTS, "hex", "length")
_LENGTH = Numbers("length", 0, 0xFFFF)
_INTERFACES = ("iifname", "oifname", "physin", "physout")
_MAX_INTERFACE = 15
"""Bytes of an interface's name, IFNAMSIZ without its end (linux/if.h)."""
_NOT_IN_INTERFACES = re.compile(r"[\s/:]")
"""What the kernel takes in no name (dev_valid_name in net/core/dev.c)."""


def set_fits(definition: SetDefinition, row: Field) -> bool:
    """Whether the elements of a set are values of a field."""
    return definition.type is _set_type(row)


def _set_type(row: Field) -> SetType | None:
    if row.type is Type.ADDRESS:
        return SetType.ADDRESS
    if row.type in (Type.TEXT, Type.BYTES):
        return SetType.STRING
    if row.type is Type.FLAGS:
        return None
    return SetType.PORT if row.protocols == PORTS else SetType.NUMBER


def parse_value(row: Field, node: Node, scope: Scope) -> Match | None:
    """What a field must be: a scalar, a list (or), a reference, `{not: ...}` or a comparison; None after problems."""
    return _Value(row, scope).parse(node)


def check_set(row: Field, definition: SetDefinition, node: Node, scope: Scope) -> bool:
    """Report a set whose elements are no values of the field."""
    if not set_fits(definition, row):
        wanted = _set_type(row)
        expected = f"a set of type {wanted.value}" if wanted else "no set: flags are compared bit by bit"
        message = f"set {quoted(definition.name)} has type {definition.type.value}: {row.name} takes {expected}"
        scope.problems.error("wrong-type", node, message)
        return False
    if row.name == "hwaddr" and isinstance(definition.elements, Strings):
        for element in sorted(definition.elements.values):
            text = element.decode("utf-8", "surrogatepass")
            if _hardware(text) != text:
                message = f"set {quoted(definition.name)} has {quoted(text)}: hwaddr is lower-case 02:00:5e:00:53:01"
                scope.problems.error("bad-value", node, message)
                return False
    return True


@dataclass(frozen=True, slots=True)
class _Value:
    """One key's value while it is read."""

    row: Field
    scope: Scope

    @property
    def numbers(self) -> Numbers:
        return Numbers.of(self.row)

    def parse(self, node: Node) -> Match | None:
        name = reference(node)
        if name is None or name not in self.scope.defines:
            return self._parse(node)
        key = (self.row.layer, self.row.type, self.row.name, name)
        if key not in self.scope.matches:
            self.scope.matches[key] = self._parse(node)
        return self.scope.matches[key]

    def _parse(self, node: Node) -> Match | None:
        found = self.scope.resolve(node)
        if isinstance(found, SetDefinition):
            return InSet(found.name) if check_set(self.row, found, node, self.scope) else None
        if isinstance(found, Sequence):
            return self._list(found)
        if isinstance(found, Mapping):
            return self._forms(found)
        return None if found is None else self._scalar(found)

    def _list(self, node: Sequence) -> Match | None:
        if not node.items:
            self.scope.problems.error("bad-value", node, f"{self.row.name}: the list is empty: expected a value")
            return None
        matches = [self.parse(item) for item in node.items]
        good = [match for match in matches if match is not None]
        return any_of(good) if len(good) == len(matches) else None

    def _scalar(self, node: Scalar) -> Match | None:
        if self.row.type in (Type.TEXT, Type.BYTES):
            return self._plain_text(node)
        expected = {Type.ADDRESS: "an address, a prefix or a range", Type.FLAGS: "flags such as 'syn' or 'syn,ack'"}
        scalar = scalar_of(node, self.scope, expected.get(self.row.type, self.numbers.expected))
        if scalar is None:
            return None
        try:
            if self.row.type is Type.ADDRESS:
                family, low, high = parse_address(scalar.text)
                pairs = ((low, high),)
                return Addresses(v4=pairs) if family is Family.IPV4 else Addresses(v6=pairs)
            if self.row.type is Type.FLAGS or (self.row.type is Type.MARK and "/" in scalar.text):
                return _bits(scalar.text, self.row)
            return Ranges((parse_range(scalar.text, self.numbers),))
        except BadValueError as error:
            report(self.scope, scalar, error)
            return None

    def _plain_text(self, node: Scalar) -> Match | None:
        text = text_of(node, self.scope, "a text")
        if text is None:
            return None
        if self.row.type is Type.BYTES:
            return Text(TextTest.EQUALS, encode(text))
        if self.row.name in _INTERFACES and text.startswith(("!", "=")):
            name = text.lstrip("!= ")
            message = f"{self.row.name} {quoted(text)}: not is written {{not: {name}}}"
            self.scope.problems.error("bad-value", node, f"{message}; {{equals: ...}} takes it literally")
            return None
        start = text.removesuffix("*")
        if "*" in start:
            message = f"{self.row.name} {quoted(text)}: '*' means any ending and can only stand last"
            self.scope.problems.error("bad-value", node, f"{message}; {{equals: ...}} takes it literally")
            return None
        return self._text(TextTest.EQUALS if start == text else TextTest.STARTS_WITH, start, node)

    def _text(self, test: TextTest, text: str, node: Node) -> Match | None:
        if self.row.name == "hwaddr" and test is not TextTest.REGEX:
            address = _hardware(text) if test is TextTest.EQUALS else _hardware_part(text)
            if address is None:
                message = f"hwaddr {quoted(text)}: expected 6 or 8 bytes such as 02:00:5e:00:53:01"
                self.scope.problems.error("bad-value", node, message)
                return None
            text = address
        if self.row.name in _INTERFACES and test is not TextTest.REGEX:
            if len(encode(text)) > _MAX_INTERFACE:
                message = f"{self.row.name} {quoted(text)}: names of interfaces have at most {_MAX_INTERFACE} bytes"
                self.scope.problems.error("out-of-range", node, message)
                return None
            if _NOT_IN_INTERFACES.search(text):
                message = f"{self.row.name} {quoted(text)}: names of interfaces have no spaces, '/' or ':'"
                self.scope.problems.error("bad-value", node, f"{message}: expected one name; a list has several")
                return None
        return Text(test, encode(text))

    # Mappings

    def _forms(self, node: Mapping) -> Match | None:
        known = ("not", *(_TEXT_FORMS if self.row.type in (Type.TEXT, Type.BYTES) else ()), *self._orders())
        if not node.entries:
            self.scope.problems.error(
                "bad-value", node, f"{self.row.name}: the mapping is empty: expected a comparison"
            )
            return None
        matches: list[Match | None] = []
        ordered: list[Pair] = []
        for key, value in node.entries:
            if key.text not in known:
                self._unknown_form(key, known)
                matches.append(None)
            elif key.text == "not":
                inner = self.parse(value)
                matches.append(None if inner is None else NotMatch(inner))
            elif key.text in _ORDERS:
                pair = self._order(key.text, value)
                matches.extend([None] if pair is None else ())
                ordered.extend([pair] if pair else ())
            else:
                matches.append(self._text_form(key.text, value))
        good = [match for match in matches if match is not None]
        if len(good) < len(matches):
            return None
        if ordered:
            low, high = max(low for low, _ in ordered), min(high for _, high in ordered)
            if low > high:
                message = f"{self.row.name}: no number meets all of these comparisons"
                self.scope.problems.error("contradiction", node, message)
                return None
            good.insert(0, Ranges(((low, high),)))
        return good[0] if len(good) == 1 else AllMatch(tuple(good))

    def _orders(self) -> tuple[str, ...]:
        return tuple(_ORDERS) if self.row.type in (Type.NUMBER, Type.MARK) else ()

    def _unknown_form(self, key: Scalar, known: tuple[str, ...]) -> None:
        exists = key.text in (*_TEXT_FORMS, *_ORDERS)
        kind = "wrong-form" if exists else "unknown-key"
        message = f"{key.text!r} is no comparison of {self.row.name}, which is {_TYPES[self.row.type]}"
        expected = f"{message}: expected one of {', '.join(known)}"
        if self.row.name == "mark" and key.text in ("set", "mask"):
            expected = "mark is set by the rule, not by its match: indent it less, as `match` itself"
        meant = None if exists or key.text in ("set", "mask") else nearest(key.text, known)
        self.scope.problems.error(kind, key, expected, suggestion=meant)

    def _order(self, form: str, node: Node) -> Pair | None:
        numbers = self.numbers
        scalar = scalar_of(node, self.scope, f"a number for {form!r}")
        if scalar is None:
            return None
        try:
            low, high = _ORDERS[form](parse_number(scalar.text, numbers), numbers)
        except BadValueError as error:
            report(self.scope, scalar, error)
            return None
        if low > high:
            message = (
                f"{self.row.name} {form} {scalar.text}: no number is; expected one of {numbers.low} to {numbers.high}"
            )
            self.scope.problems.error("out-of-range", scalar, message)
            return None
        return low, high

    def _text_form(self, form: str, node: Node) -> Match | None:
        if form == "length":
            return _length(node, self.scope)
        found = self.scope.resolve(node)
        if isinstance(found, Sequence):
            matches = [self._text_form(form, item) for item in found.items]
            good = [match for match in matches if match is not None]
            if not matches:
                self.scope.problems.error("bad-value", found, f"{form}: the list is empty: expected a text")
            return any_of(good) if matches and len(good) == len(matches) else None
        if form == "hex":
            pattern = parse_hex(node, self.scope)
            return None if pattern is None else Text(TextTest.CONTAINS, pattern)
        text = text_of(node, self.scope, f"a text for {form!r}")
        if text is None:
            return None
        test = TextTest(form)
        if not text and test is not TextTest.EQUALS:
            self.scope.problems.error("bad-value", node, f"{form} '': everything matches it: expected a text")
            return None
        if test is TextTest.REGEX:
            try:
                compile_pattern(encode(text))
            except ValueError as error:
                self.scope.problems.error("bad-regex", node, f"regex {quoted(text)}: {error}")
                return None
        return self._text(test, text, node)


_TYPES = {
    Type.NUMBER: "a number",
    Type.FLAGS: "a set of flags",
    Type.MARK: "a mark",
    Type.ADDRESS: "an address",
    Type.TEXT: "a text",
    Type.BYTES: "raw bytes",
}


def any_of(matches: list[Match]) -> Match:
    """An or of matches, whose numbers and addresses are merged into one each."""
    ranges = [match.ranges for match in matches if isinstance(match, Ranges)]
    addresses = [match for match in matches if isinstance(match, Addresses)]
    rest: list[Match] = [match for match in matches if not isinstance(match, Ranges | Addresses)]
    if addresses:
        v4 = merge_ranges(pair for match in addresses for pair in match.v4)
        rest.insert(0, Addresses(v4, merge_ranges(pair for match in addresses for pair in match.v6)))
    if ranges:
        rest.insert(0, Ranges(merge_ranges(pair for pairs in ranges for pair in pairs)))
    return rest[0] if len(rest) == 1 else AnyMatch(tuple(rest))


def parse_hex(node: Node, scope: Scope) -> bytes | None:
    """Bytes, at least one, written as hex digits with optional spaces or colons; None after a problem."""
    scalar = scalar_of(node, scope, "bytes as hex digits")
    if scalar is None:
        return None
    digits = re.sub(r"[\s:]", "", scalar.text.removeprefix("0x"))
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,1024}", digits):
        message = f"hex {quoted(scalar.text)}: expected 1 to 1024 bytes of two hex digits, such as 'de ad be ef'"
        scope.problems.error("bad-value", scalar, message)
        return None
    return bytes.fromhex(digits)


def _length(node: Node, scope: Scope) -> Match | None:
    row = Field(name="length", type=Type.NUMBER, layer=Layer.PAYLOAD, high=_LENGTH.high, doc="", source="RFC 791")
    match = _Value(row, scope).parse(node)
    return None if match is None else _as_length(match, node, scope)


def _as_length(match: Match, node: Node, scope: Scope) -> Match | None:
    """The same test of a text's length instead of a number. Sets hold no lengths."""
    match match:
        case Ranges(ranges):
            return TextLength(ranges)
        case NotMatch(inner):
            length = _as_length(inner, node, scope)
            return None if length is None else NotMatch(length)
        case AnyMatch(inners) | AllMatch(inners):
            lengths = [_as_length(inner, node, scope) for inner in inners]
            good = tuple(length for length in lengths if length is not None)
            return type(match)(good) if len(good) == len(inners) else None
    scope.problems.error("wrong-type", node, f"a length cannot be looked up in a set: expected {_LENGTH.expected}")
    return None


def _bits(text: str, row: Field) -> Match:
    """nft's `syn`, `syn,ack`, `none`, `syn / fin,syn,rst,ack`; of a mark `value/mask`."""
    value_text, slash, mask_text = (part.strip() for part in text.partition("/"))
    value = _flags(value_text, row)
    if slash:
        mask = _flags(mask_text, row)
        if value & ~mask:
            message = f"{row.name} {quoted(text)}: bits of the value are outside the mask, so nothing matches"
            raise BadValueError("contradiction", message)
        return Masked(value, mask)
    return AnyBit(value) if value else Masked(0, row.high)


def _flags(text: str, row: Field) -> int:
    """The bits of `syn,ack`, of `none` or of a number."""
    if row.type is Type.FLAGS and text.lower() == "none":
        return 0
    numbers = Numbers.of(row)
    bits = 0
    for name in text.split(","):
        bits |= parse_number(name.strip(), numbers)
    return bits


_HARDWARE = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2})*")


def _hardware(text: str) -> str | None:
    """A link-layer address in the form that packets have it, or None."""
    lower = text.lower().replace("-", ":")
    return lower if _HARDWARE.fullmatch(lower) and len(lower) in (17, 23) else None


def _hardware_part(text: str) -> str | None:
    """A piece of a link-layer address in that form, or None."""
    lower = text.lower().replace("-", ":")
    return lower if re.fullmatch(r"[0-9a-f:]{0,23}", lower) else None

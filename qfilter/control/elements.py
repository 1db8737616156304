"""Elements of sets as text, both ways: what a set holds, and what an operator adds to it. Pure.

A text is written as it is where it is printable UTF-8; its other bytes are `\\x00` to `\\xff`, and a backslash is two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from qfilter.engine.sets import Digest, Element
from qfilter.errors import ControlError
from qfilter.fields import Family
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition, SetType
from qfilter.policy.values import MAX_STRING, NUMBER, PORT, BadValueError, Numbers, parse_address, parse_range, quoted

_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|)")


def read_element(definition: SetDefinition, text: str) -> Element:
    """What can be added to a set: one address, port, number or text. Raises ControlError."""
    try:
        match definition.type:
            case SetType.ADDRESS:
                return _address(text)
            case SetType.STRING:
                return _text(text)
            case SetType.PORT:
                return _number(text, PORT)
            case SetType.NUMBER:
                return _number(text, NUMBER)
    except BadValueError as wrong:
        hint = f" (did you mean {wrong.suggestion!r}?)" if wrong.suggestion else ""
        raise ControlError(f"{wrong.message}{hint}") from None


def show_element(element: Element | Digest) -> str:
    """An element that was added. A text that was too long to be kept shows what is kept of it, its digest."""
    if isinstance(element, bytes):
        text = element.decode("utf-8", "surrogateescape").replace("\\", "\\\\")
        return "".join(char if char.isprintable() else _escaped(char) for char in text)
    if isinstance(element, tuple):
        return f"blake2b:{element[1].hex()}"
    return str(element)


def show_file(definition: SetDefinition) -> Iterator[str]:
    """The elements that a set has from its policy, in order; adjacent ones are one range or prefix."""
    elements = definition.elements
    if isinstance(elements, Addresses):
        yield from (_range(IPv4Address(low), IPv4Address(high), 32) for low, high in elements.v4)
        yield from (_range(IPv6Address(low), IPv6Address(high), 128) for low, high in elements.v6)
    elif isinstance(elements, Ranges):
        yield from (str(low) if low == high else f"{low}-{high}" for low, high in elements.ranges)
    else:
        yield from map(show_element, sorted(elements.values))


def count_file(definition: SetDefinition) -> int:
    """How many `show_file` gives."""
    elements = definition.elements
    if isinstance(elements, Addresses):
        return len(elements.v4) + len(elements.v6)
    return len(elements.ranges) if isinstance(elements, Ranges) else len(elements.values)


def _address(text: str) -> IPv4Address | IPv6Address:
    family, low, high = parse_address(text)
    if low != high:
        raise ControlError(f"element {quoted(text)}: expected one address; prefixes and ranges stand in the policy")
    return IPv4Address(low) if family is Family.IPV4 else IPv6Address(low)


def _number(text: str, numbers: Numbers) -> int:
    low, high = parse_range(text, numbers)
    if low != high:
        raise ControlError(f"element {quoted(text)}: expected one {numbers.what}; ranges stand in the policy")
    return low


def _text(text: str) -> bytes:
    data = bytearray()
    end = 0
    for found in _ESCAPE.finditer(text):
        if not found[1]:
            raise ControlError(f"element {quoted(text)}: expected \\\\ or such as \\x20 for a backslash")
        data += text[end : found.start()].encode("utf-8", "surrogateescape")
        data += b"\\" if found[1] == "\\" else bytes.fromhex(found[1][1:])
        end = found.end()
    data += text[end:].encode("utf-8", "surrogateescape")
    if len(data) > MAX_STRING:
        raise ControlError(f"element {quoted(text)}: expected at most {MAX_STRING} bytes")
    return bytes(data)


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _range(low: IPv4Address | IPv6Address, high: IPv4Address | IPv6Address, bits: int) -> str:
    if low == high:
        return str(low)
    size = int(high) - int(low) + 1
    if size & (size - 1) == 0 and int(low) % size == 0:
        return f"{low}/{bits - size.bit_length() + 1}"
    return f"{low}-{high}"

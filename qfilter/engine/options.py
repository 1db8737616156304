"""The one walker over options, of IPv4, TCP and IPv6 headers.

scapy's own option parsers are not used: they take unbounded lists, and some raise on bytes from the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qfilter.engine.decoded import Decoded, Lie
from qfilter.engine.value import Partial, Unknown
from qfilter.model.malformed import Malformed
from qfilter.model.verdict import Reason


class Layout(Enum):
    """How a header writes its options: which are one byte, and what the length of the others counts."""

    IPV4_AND_TCP = "0 ends the list, 1 is padding, the length counts kind and length too (RFC 791, RFC 9293)"
    IPV6 = "0 is padding, the length counts the value alone (RFC 8200 section 4.2)"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `value` is shorter than the option says when the copy ends inside it."""

    kind: int
    value: bytes
    whole: bool = True


def walk(d: Decoded, start: int, end: int, layout: Layout, code: Malformed) -> list[Option]:
    """The options between two offsets, as far as they are copied; a length that lies is `code`."""
    data, here = d.packet.data, min(end, d.here)
    found: list[Option] = []
    at = start
    while at < here:
        kind = data[at]
        if kind == 0 and layout is Layout.IPV4_AND_TCP:
            found.append(Option(0, b""))
            return found
        if kind == (0 if layout is Layout.IPV6 else 1):
            found.append(Option(kind, b""))
            at += 1
            continue
        if at + 2 > end:
            raise Lie(code)
        if at + 2 > here:
            found.append(Option(kind, b"", whole=False))
            break
        size = data[at + 1] + (2 if layout is Layout.IPV6 else 0)
        if size < 2 or at + size > end:
            raise Lie(code)
        found.append(Option(kind, data[at + 2 : min(at + size, here)], whole=at + size <= here))
        at += size
    if here < end:
        d.cut = Reason.TRUNCATED
    return found


def kinds(d: Decoded, field: str, found: list[Option]) -> tuple[int, ...] | Partial:
    """The value of a field that lists the options that `walk` has just found."""
    known = tuple(option.kind for option in found)
    return known if d.cut is None else Partial(known, None, Unknown(d.cut, field))

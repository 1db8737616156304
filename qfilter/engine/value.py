"""What reading a field gives: a value, the certainty that the packet has none, or the reason why nobody can know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from qfilter.model.verdict import Reason


class Absent(Enum):
    """The type of ABSENT, so that a type checker can tell it from values."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""The packet does not have the field: a condition on it is false, also when negated."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The packet may have the field, but its bytes are not here: a condition on it is unknown."""

    reason: Reason
    """FRAGMENT, TRUNCATED or MALFORMED; ERROR for a timestamp that is no time."""
    detail: str
    """The field as a policy names it (`inner.dport`); with MALFORMED the code of `qfilter.model.malformed`."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A value of which only the beginning is here: bytes that were cut, or the first of several numbers.

    A test that `known` alone settles is settled: something contained in it or at its start, one of the numbers.
    Any other test has the outcome of `rest`.
    """

    known: bytes | tuple[int | bytes, ...]
    length: int | None
    """Bytes of the whole value where the headers tell; None for numbers and for the payload of a first fragment."""
    rest: Unknown


Known = int | str | bytes | IPv4Address | IPv6Address | tuple[int | bytes, ...]
"""int for NUMBER, FLAGS and MARK; an address for ADDRESS; str for TEXT; bytes for BYTES; a tuple for `many`
and for fields of scapy."""

Value = Known | Partial | Unknown | Absent


def exact(value: Value) -> Known | Unknown | Absent:
    """A value for whoever needs the whole of it: one of which only a part is here is unknown."""
    return value.rest if isinstance(value, Partial) else value

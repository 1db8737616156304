"""As much of DNS as a look-up of addresses needs (RFC 1035): one question, its answers, no compression of our own."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping, Sequence

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_ANSWER = struct.Struct("!HHHIH")

_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8400
_NAME_ERROR = 3
_IN = 1
_POINTER_TO_QUESTION = 0xC000 | _HEADER.size
_TYPES = {4: 1, 6: 28}
"""A and AAAA, by the address's family."""


def question(name: str, family: int, number: int) -> bytes:
    """A query for the A (family 4) or AAAA (family 6) records of a name; `number` comes back in the answer."""
    labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + labels + b"\0" + _QUESTION.pack(_TYPES[family], _IN)


def answer(query: bytes, records: Mapping[str, Sequence[str]]) -> bytes | None:
    """The reply to a query; None when it is not one."""
    try:
        number = _HEADER.unpack_from(query)[0]
        name, end = _read_name(query, _HEADER.size)
        kind, _ = _QUESTION.unpack_from(query, end)
    except (struct.error, IndexError):
        return None
    asked = query[_HEADER.size : end + _QUESTION.size]
    addresses = [ipaddress.ip_address(text) for text in records.get(name, ())]
    found = [address.packed for address in addresses if _TYPES[address.version] == kind]
    code = 0 if addresses else _NAME_ERROR
    head = _HEADER.pack(number, _RESPONSE | code, 1, len(found), 0, 0)
    return (
        head + asked + b"".join(_ANSWER.pack(_POINTER_TO_QUESTION, kind, _IN, 60, len(data)) + data for data in found)
    )


def addresses(reply: bytes) -> list[str]:
    """The addresses in the answers of a reply that was made by `answer`."""
    count = _HEADER.unpack_from(reply)[3]
    _, end = _read_name(reply, _HEADER.size)
    place = end + _QUESTION.size
    found = []
    for _ in range(count):
        length = _ANSWER.unpack_from(reply, place)[4]
        place += _ANSWER.size
        found.append(str(ipaddress.ip_address(reply[place : place + length])))
        place += length
    return found


def _read_name(message: bytes, place: int) -> tuple[str, int]:
    labels = []
    while length := message[place]:
        labels.append(message[place + 1 : place + 1 + length].decode("ascii", "replace"))
        place += 1 + length
    return ".".join(labels), place + 1

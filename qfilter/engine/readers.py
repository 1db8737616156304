"""Reading fields of a decoded packet: `read` for those of the field table, `read_bytes` for bytes at an offset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from qfilter.engine.checksum import checksum
from qfilter.engine.clock import Clock
from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.tunnel import inside
from qfilter.engine.value import ABSENT, Absent, Partial, Unknown, Value
from qfilter.fields import AH, FIELDS, Field, Layer
from qfilter.model.packet import Packet
from qfilter.model.rule import Base
from qfilter.model.verdict import Reason

_SYSTEM = Clock()


def read(decoded: Decoded, field: str, depth: int = 0, *, clock: Clock = _SYSTEM) -> Value:
    """The value of a field of the field table; `depth` tunnels inside for `inner.`. Never raises on any packet.

    Of a malformed packet only what was read before the lie is a value (for events; no rule sees it), and nothing of a
    malformed packet inside a tunnel. Metadata is that of the packet as a whole at any depth, but for `family`.
    """
    row = FIELDS[field]
    detail = "inner." * depth + field
    level = decoded
    for _ in range(depth):
        found = inside(level, detail)
        if not isinstance(found, Decoded):
            return found
        if found.malformed is not None:
            return Unknown(Reason.MALFORMED, found.malformed)
        level = found
    if row.layer is Layer.META:
        return _META[field](level, clock)
    if level.malformed is not None and field not in level.values:
        return Unknown(Reason.MALFORMED, level.malformed)
    if field == "payload":
        return _payload(level, detail)
    if field == "checksum":
        return checksum(level, detail)
    return _header(level, row, detail)


def read_bytes(decoded: Decoded, base: Base, offset: int, size: int) -> bytes | Unknown | Absent:
    """`size` bytes of the packet, `offset` bytes behind a base: ABSENT where the packet ends before."""
    detail = f"{base} + {offset}"
    if decoded.malformed is not None:
        return Unknown(Reason.MALFORMED, decoded.malformed)
    start = {
        Base.NETWORK: decoded.network_offset,
        Base.TRANSPORT: decoded.transport_offset,
        Base.PAYLOAD: decoded.payload_offset,
    }[base]
    if isinstance(start, Unknown):
        return replace(start, detail=detail)
    if start is None or start + offset < 0:
        return ABSENT
    begin, end = start + offset, start + offset + size
    if end > decoded.end:
        return Unknown(Reason.FRAGMENT, detail) if decoded.fragment is Fragment.FIRST else ABSENT
    if end > decoded.here:
        return Unknown(Reason.TRUNCATED, detail)
    return decoded.packet.data[begin:end]


def _header(d: Decoded, row: Field, detail: str) -> Value:
    """A field of a header: read already, impossible in this packet, or in a header that is not here."""
    value = d.values.get(row.name)
    if isinstance(value, Partial):
        return replace(value, rest=replace(value.rest, detail=detail))
    if value is not None:
        return value
    if d.family is not None and d.family not in row.families:
        return ABSENT
    protocols = row.protocols or _BEHIND_ALL_EXTENSIONS.get(row.name)
    if protocols and d.protocol is not None and d.protocol not in protocols:
        return ABSENT
    return ABSENT if d.cut is None else Unknown(d.cut, detail)


_BEHIND_ALL_EXTENSIONS = {"ah.spi": (AH,)}
"""An AH in an extension chain has been read before the protocol is known; later it can only be the protocol itself."""


def _payload(d: Decoded, detail: str) -> bytes | Partial | Unknown | Absent:
    """What the packet carries. A first fragment carries only a part, and the kernel may have copied only a part."""
    start = d.payload_offset
    if isinstance(start, Unknown):
        return replace(start, detail=detail)
    if start is None:
        return ABSENT
    known, length = d.packet.data[start : d.here], d.end - start
    cut = Reason.TRUNCATED if len(known) < length else Reason.FRAGMENT
    if d.fragment is Fragment.FIRST:
        return Partial(known, None, Unknown(cut, detail))
    return known if len(known) == length else Partial(known, length, Unknown(cut, detail))


def _of_packet(get: Callable[[Packet], int | str | None]) -> Callable[[Decoded, Clock], Value]:
    """A reader of what the kernel said about a packet. What it did not say, the packet does not have."""

    def reader(d: Decoded, _: Clock) -> Value:
        value = get(d.packet)
        return ABSENT if value is None else value

    return reader


def _of_time(get: Callable[[datetime], int]) -> Callable[[Decoded, Clock], Value]:
    def reader(d: Decoded, clock: Clock) -> Value:
        try:
            return get(clock.local(d.packet.timestamp))
        except (OverflowError, ValueError, OSError):
            return Unknown(Reason.ERROR, f"timestamp {d.packet.timestamp!r} is no time")

    return reader


def _family(d: Decoded, _: Clock) -> Value:
    if d.family is not None:
        return FIELDS["family"].names[d.family]
    return ABSENT if d.malformed is None else Unknown(Reason.MALFORMED, d.malformed)


_META: dict[str, Callable[[Decoded, Clock], Value]] = {
    "hook": _of_packet(lambda packet: packet.hook.number),
    "family": _family,
    "iifname": _of_packet(lambda packet: packet.iifname),
    "oifname": _of_packet(lambda packet: packet.oifname),
    "physin": _of_packet(lambda packet: packet.physin),
    "physout": _of_packet(lambda packet: packet.physout),
    "mark": _of_packet(lambda packet: packet.mark),
    "length": _of_packet(lambda packet: packet.wire_length),
    "uid": _of_packet(lambda packet: packet.uid),
    "gid": _of_packet(lambda packet: packet.gid),
    "ct.state": _of_packet(lambda packet: packet.ct_state),
    "ct.mark": _of_packet(lambda packet: packet.ct_mark),
    "hwaddr": _of_packet(lambda packet: None if packet.hwaddr is None else packet.hwaddr.hex(":")),
    "hour": _of_time(lambda now: now.hour),
    "weekday": _of_time(lambda now: now.isoweekday() % 7),
}

"""Packets in words: field names with plain values as a policy writes them, made into the values that packets have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address

from qfilter.errors import PacketError
from qfilter.fields import BUILDABLE, FIELDS, Field, Layer, Type
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet

Plain = int | str | bytes | IPv4Address | IPv6Address | tuple[int, ...]
_A_SUNDAY = datetime(2024, 1, 7)  # noqa: DTZ001 -- this machine's time zone is meant


class Described(dict[str, Plain]):
    """Values by field name, each of its field's type."""

    def number(self, name: str, default: int) -> int:
        """The value of a NUMBER, FLAGS or MARK field."""
        value = self.get(name, default)
        assert isinstance(value, int)
        return value

    def number_or_none(self, name: str) -> int | None:
        """The value of such a field, None where it is not described."""
        return self.number(name, 0) if name in self else None

    def numbers(self, name: str) -> tuple[int, ...]:
        """The values of a field with several; none where it is not described."""
        value = self.get(name, ())
        assert isinstance(value, tuple)
        return value

    def address(self, name: str, default: str) -> IPv4Address | IPv6Address:
        """The value of an ADDRESS field."""
        return ip_address(str(self.get(name, default)))

    def text(self, name: str) -> str | None:
        """The value of a TEXT field."""
        value = self.get(name)
        return None if value is None else str(value)

    def octets(self, name: str, default: bytes) -> bytes:
        """The value of a BYTES field."""
        value = self.get(name, default)
        assert isinstance(value, bytes)
        return value


def describe(fields: Mapping[str, object]) -> Described:
    """Check names and values one by one; raises PacketError with the first that cannot be."""
    for name in fields:
        if name not in BUILDABLE:
            raise PacketError(f"{name!r}: expected a field that a packet can be built from")
    if "hook" not in fields:
        raise PacketError(f"hook: expected one of {', '.join(Hook)}")
    values = Described((name, _value(FIELDS[name], value)) for name, value in fields.items())
    hook = _hook(values)
    for name, value in fields.items():
        if hook not in FIELDS[name].hooks:
            raise PacketError(f"{name} {value!r}: expected a hook that has it, {', '.join(FIELDS[name].hooks)}")
    return values


def metadata(data: bytes, values: Described) -> Packet:
    """The packet of these bytes with what a description says about it besides."""
    hwaddr = values.text("hwaddr")
    when = _A_SUNDAY + timedelta(days=values.number("weekday", 0), hours=values.number("hour", 0))
    return Packet(
        data=data,
        hook=_hook(values),
        wire_length=len(data),
        iifname=values.text("iifname"),
        oifname=values.text("oifname"),
        physin=values.text("physin"),
        physout=values.text("physout"),
        mark=values.number("mark", 0),
        uid=values.number_or_none("uid"),
        gid=values.number_or_none("gid"),
        ct_state=values.number_or_none("ct.state"),
        ct_mark=values.number_or_none("ct.mark"),
        hwaddr=None if hwaddr is None else _hardware_address(hwaddr),
        timestamp=when.timestamp() if "weekday" in values or "hour" in values else None,
    )


def from_hex(text: str, fields: Mapping[str, object]) -> Packet:
    """A packet from its bytes in hex, with spaces, line ends or colons between; `fields` has `hook` and metadata."""
    values = _only_metadata(fields)
    try:
        data = bytes.fromhex(text.replace(":", " ").removeprefix("0x"))
    except ValueError:
        raise PacketError(f"packet {text!r}: expected bytes in hex such as '45 00 00 14'") from None
    return metadata(data, values)


def from_bytes(data: bytes, fields: Mapping[str, object]) -> Packet:
    """A packet of these bytes; `fields` has `hook` and metadata."""
    return metadata(data, _only_metadata(fields))


def _only_metadata(fields: Mapping[str, object]) -> Described:
    for name in fields:
        if name not in FIELDS or FIELDS[name].layer is not Layer.META or name in ("family", "length"):
            raise PacketError(f"{name!r}: expected metadata such as iifname, the packet's bytes are given")
    return describe(fields)


def _hook(values: Described) -> Hook:
    return Hook.from_number(values.number("hook", 0))


def _value(row: Field, value: object) -> Plain:
    match row.type:
        case Type.ADDRESS:
            return _address(row, value)
        case Type.TEXT:
            if isinstance(value, str) and value:
                return value
            raise PacketError(f"{row.name} {value!r}: expected a name")
        case Type.BYTES:
            return _bytes(row, value)
        case Type.FLAGS:
            return sum({1 << bit for number in _numbers(row, value) for bit in range(8) if number >> bit & 1})
    if row.many:
        return tuple(_numbers(row, value))
    return _number(row, value)


def _numbers(row: Field, value: object) -> Iterable[int]:
    if isinstance(value, str):
        value = value.split(",")
    return [_number(row, item) for item in (value if isinstance(value, list | tuple) else [value])]


def _number(row: Field, value: object) -> int:
    number = value
    if isinstance(value, str):
        word = value.strip().lower()
        number = row.names.get(word, word)
        if isinstance(number, str) and (number.isdecimal() or number.startswith("0x")):
            try:
                number = int(number, 16 if number.startswith("0x") else 10)
            except ValueError:
                number = None
    if isinstance(number, int) and not isinstance(number, bool) and row.low <= number <= row.high:
        return number
    names = f", or one of {', '.join(row.names)}" if 0 < len(row.names) <= 16 else ""
    names = names or (" or a name for it" if row.names else "")
    raise PacketError(f"{row.name} {value!r}: expected {row.low} to {row.high}{names}")


def _address(row: Field, value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, str | IPv4Address | IPv6Address):
        try:
            return ip_address(value)
        except ValueError:
            pass
    raise PacketError(f"{row.name} {value!r}: expected an IPv4 or IPv6 address")


def _bytes(row: Field, value: object) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogateescape")
        case {"hex": str(digits), **rest} if not rest:
            try:
                return bytes.fromhex(digits)
            except ValueError:
                pass
    raise PacketError(f"{row.name} {value!r}: expected a text or {{hex: 'de ad'}}")


def _hardware_address(text: str) -> bytes:
    try:
        return bytes(int(part, 16) for part in text.split(":"))
    except ValueError:
        raise PacketError(f"hwaddr {text!r}: expected an address such as 02:00:5e:00:53:01") from None

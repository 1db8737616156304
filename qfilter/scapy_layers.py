"""`scapy.<Layer>.<field>`: which layers and fields scapy has, what their values are, and the values of one packet.

Layers are found by their class's name in scapy's sources, so that only the module that a policy names is loaded. Scapy
itself is imported when the first of these functions needs it: that takes half a second.
"""

# ruff: noqa: PLC0415 - scapy is imported inside functions

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from struct import calcsize
from typing import TYPE_CHECKING, Any

from qfilter.fields import Field, Layer, Type
from qfilter.names import protocols, services

if TYPE_CHECKING:
    from scapy.packet import Packet

_CLASS = re.compile(r"^(?:    )?class (\w+)\(", re.MULTILINE)
_LOW, _HIGH = -(1 << 63), (1 << 128) - 1
"""Bounds of a number whose size scapy does not tell."""


class UnknownScapyError(LookupError):
    """A layer or field that cannot be matched: `kind` is a slug of the policy's mistakes."""

    def __init__(self, kind: str, message: str, suggestion: str | None = None) -> None:
        self.kind = kind
        self.suggestion = suggestion
        """`Layer.field` that was probably meant."""
        super().__init__(message)


@cache
def resolve(layer: str, field: str) -> tuple[Field, ...]:
    """What may be compared with a field of a scapy layer: rows for numbers, for text, or one each where both occur.

    `layer` is a class's name. Raises UnknownScapyError for a layer or field that scapy does not have, for two layers of
    one name, and for a field that holds layers.
    """
    try:
        found = layer_class(layer)
    except UnknownScapyError as error:
        meant = error.suggestion and f"{error.suggestion}.{field}"
        raise UnknownScapyError(error.kind, str(error), meant) from None
    described = {row.name: row for row in found.fields_desc}
    row = described.get(field)
    if row is None:
        meant = _nearest(field, described)
        expected = f"one of {', '.join(described)}" if described else f"a layer made from it: {_below(found)}"
        message = f"scapy layer {layer!r} has no field {field!r}: expected {expected}"
        raise UnknownScapyError("unknown-field", message, meant and f"{layer}.{meant}")
    leaves = list(_leaves(row))
    plain = [leaf for leaf in leaves if not leaf.holds_packets]
    if not plain:
        raise UnknownScapyError("wrong-form", f"scapy.{layer}.{field} holds layers: {_example(leaves)}")
    numbers = [leaf for leaf in plain if _can_be(leaf, Type.NUMBER)]
    texts = [leaf for leaf in plain if _can_be(leaf, Type.TEXT)]
    name, source = f"scapy.{layer}.{field}", f"{found.__module__}.{found.__name__}"
    rows = []
    if numbers:
        low, high = _bounds(numbers)
        names = {name: number for leaf in numbers for name, number in _names(leaf).items()}
        rows.append(_row(name, Type.NUMBER, source, low, high, names))
    if texts:
        rows.append(_row(name, Type.TEXT, source, 0, 0, {}))
    return tuple(rows)


@cache
def layer_class(name: str) -> type[Packet]:
    """The class of a scapy layer, its module loaded. Raises UnknownScapyError."""
    modules = _index().get(name, ())
    core = [module for module in modules if not module.startswith("scapy.contrib.")]
    classes = [found for module in (core or modules) if (found := _load(module, name)) is not None]
    if not classes:
        meant = _nearest(name, (other for other in _index() if not other.endswith("Field")))
        raise UnknownScapyError("unknown-field", f"scapy has no layer {name!r}: expected the name of a class", meant)
    if len(classes) > 1:
        both = " and ".join(found.__module__ for found in classes)
        raise UnknownScapyError("ambiguous-name", f"scapy has several layers {name!r}: in {both}")
    return classes[0]


def values(layer: Packet, field: str) -> tuple[int | bytes, ...]:
    """What a field of a dissected layer holds, for matching: none when the packet does not have the field.

    Numbers and flags are ints; text, addresses and bytes are bytes (UTF-8); a tuple is one text `name=value`; a list is
    several values; anything else is the text that scapy shows for it.
    """
    if layer.fields.get(field) is None:
        return ()
    described, value = layer.getfield_and_val(field)
    return tuple(_plain(described.i2h(layer, value)))


# Values


def _plain(value: Any) -> Iterator[int | bytes]:
    from scapy.asn1.asn1 import ASN1_Object
    from scapy.fields import FlagValue

    if isinstance(value, int | FlagValue):
        yield int(value)
    elif isinstance(value, list):
        for one in value:
            yield from _plain(one)
    elif isinstance(value, set | frozenset):
        yield from sorted(_text(one) for one in value)
    elif isinstance(value, tuple):
        yield _pair(value)
    elif isinstance(value, ASN1_Object):
        yield from _plain(value.val)
    elif value is not None:
        yield _text(value)


def _pair(value: tuple[Any, ...]) -> bytes:
    """`name=value`, the values of a longer tuple with commas between; a name alone when there is no value."""
    name, *rest = (b",".join(_parts(one)) for one in value) if value else (b"",)
    return name + b"=" + b",".join(rest) if value[1:] and value[1:] != (None,) else name


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, tuple):
        for one in value:
            yield from _parts(one)
    else:
        for one in _plain(value):
            yield _text(one)


def _text(value: Any) -> bytes:
    from scapy.packet import Packet

    if isinstance(value, bytes | bytearray | memoryview | Packet):
        return bytes(value)
    return str(value).encode("utf-8", "surrogateescape")


# Layers


@cache
def _index() -> Mapping[str, tuple[str, ...]]:
    """Names of classes to the modules that define them: core before contrib, each in alphabetical order."""
    spec = find_spec("scapy")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    found: dict[str, dict[str, None]] = {}
    for path in (root / "packet.py", *sorted(root.glob("layers/**/*.py")), *sorted(root.glob("contrib/**/*.py"))):
        parts = path.relative_to(root.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for name in _CLASS.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, {})[module] = None
    return {name: tuple(modules) for name, modules in found.items()}


def _load(module: str, name: str) -> type[Packet] | None:
    """A module's class of that name when it is a layer. The core is loaded first, always in the same order."""
    loggers = [logging.getLogger(logger) for logger in ("scapy", "scapy.loading", "scapy.runtime")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("scapy.layers.all")
            found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        # A contrib module is foreign code with dependencies of its own; whatever stops it, the policy does not load.
        raise UnknownScapyError("unknown-field", f"scapy layer {name!r}: {module} does not load: {error}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    from scapy.packet import Packet

    is_layer = isinstance(found, type) and issubclass(found, Packet) and found.__module__ == module
    return found if is_layer else None


# Fields


def _row(name: str, type: Type, source: str, low: int, high: int, names: Mapping[str, int]) -> Field:
    doc = f"a field of the scapy layer {source}"
    return Field(
        name=name,
        type=type,
        layer=Layer.PAYLOAD,
        doc=doc,
        source=source,
        low=low,
        high=high,
        names=names,
        many=True,
        needs_payload=True,
    )


def _leaves(row: Any) -> Iterator[Any]:
    """The fields that one entry of `fields_desc` can be, without the wrappers around them."""
    from scapy.asn1fields import ASN1F_optional
    from scapy.fields import FieldListField, MultipleTypeField, _FieldContainer

    if isinstance(row, MultipleTypeField):
        for one in (*(alternative for alternative, _ in row.flds), row.dflt):
            yield from _leaves(one)
    elif isinstance(row, _FieldContainer):
        yield from _leaves(row.fld)
    elif isinstance(row, ASN1F_optional):
        yield from _leaves(row._field)
    elif isinstance(row, FieldListField):
        yield from _leaves(row.field)
    else:
        yield row


def _can_be(leaf: Any, type: Type) -> bool:
    """Whether a value of the field can be of that type; true of both types where scapy's class does not tell."""
    kind = _certain(leaf)
    return kind is None or kind is type


def _certain(leaf: Any) -> Type | None:
    from scapy import asn1fields, fields

    if isinstance(leaf, asn1fields.ASN1F_INTEGER | asn1fields.ASN1F_BOOLEAN):
        return Type.NUMBER
    if isinstance(leaf, asn1fields.ASN1F_STRING | asn1fields.ASN1F_OID):
        return Type.TEXT
    if isinstance(leaf, fields.IPField | fields.IP6Field | fields.MACField | fields.UUIDField):
        return Type.TEXT
    converted = (getattr(leaf, name, None) for name in ("i2h", "m2i", "getfield"))
    standard = all(getattr(method, "__module__", None) == "scapy.fields" for method in converted)
    if isinstance(leaf, fields._StrField):
        return Type.TEXT if standard or isinstance(leaf.default, bytes | str) else None
    inexact = (
        fields._ScalingField,
        fields.FixedPointField,
        fields.MultiFlagsField,
        fields.UTCTimeField,
        fields.SecondsIntField,
        fields.BCDFloatField,
    )
    if not standard or isinstance(leaf, inexact):
        return None
    integral = isinstance(leaf, fields._BitField) or leaf.fmt[-1] in "bBhHiIlLqQ"
    return Type.NUMBER if integral else None


def _bounds(leaves: Iterable[Any]) -> tuple[int, int]:
    """The least and the greatest number that any of these fields can hold."""
    lows, highs = zip(*map(_bound, leaves), strict=True)
    return min(lows), max(highs)


def _bound(leaf: Any) -> tuple[int, int]:
    from scapy.fields import _BitField

    if _certain(leaf) is not Type.NUMBER or not hasattr(leaf, "fmt"):
        return _LOW, _HIGH
    if isinstance(leaf, _BitField):
        return (0, (1 << abs(leaf.size)) - 1) if leaf.size else (_LOW, _HIGH)
    bits = 8 * calcsize(leaf.fmt)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if leaf.fmt[-1].islower() else (0, (1 << bits) - 1)


def _names(leaf: Any) -> dict[str, int]:
    """Names that scapy has for a field's numbers; of flags each one's bit.

    Where scapy reads them from this machine's /etc, those that qfilter ships stand in, so that machines agree.
    """
    from scapy import data
    from scapy.fields import FlagsField

    if isinstance(leaf, FlagsField):
        return {name: 1 << bit for bit, name in enumerate(leaf.names) if name}
    known = getattr(leaf, "s2i", None)
    pairs = known.items() if isinstance(known, dict) else ()
    names = {name: number for name, number in pairs if isinstance(name, str) and isinstance(number, int)}
    for local, shipped in (
        (data.IP_PROTOS, protocols()),
        (data.TCP_SERVICES, services()),
        (data.UDP_SERVICES, services()),
        (data.SCTP_SERVICES, services()),
    ):
        if names and set(names.values()) == set(local.keys()):
            return dict(shipped.unambiguous)
    return names


def _example(leaves: Iterable[Any]) -> str:
    for leaf in leaves:
        inside = getattr(leaf, "cls", None)
        described = getattr(inside, "fields_desc", None)
        if isinstance(inside, type) and described:
            return f"name a field of them, such as scapy.{inside.__name__}.{described[0].name}"
    return "name a field of them"


def _below(found: type[Packet]) -> str:
    return ", ".join(sorted(one.__name__ for one in found.__subclasses__())) or "scapy knows none"


def _nearest(word: str, candidates: Iterable[str]) -> str | None:
    names = list(candidates)
    same = [name for name in names if name.lower() == word.lower()]
    found = same or get_close_matches(word, names, n=1, cutoff=0.6)
    return found[0] if found else None

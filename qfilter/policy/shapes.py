"""JSON Schema of the values that no model describes: comparisons from the field table, verdicts, actions, sets.

It is for editors: whatever it refuses the loader refuses too; the loader alone knows whether an address is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from qfilter.fields import BUILDABLE, FIELDS, MAX_DEPTH, Field, Layer, Type
from qfilter.model.match import TextTest
from qfilter.model.rule import Base
from qfilter.model.verdict import Kind, RejectWith
from qfilter.policy.binding import Json
from qfilter.policy.conditions import BLOCKS
from qfilter.policy.scope import NAME

_REFERENCE = {"type": "string", "pattern": rf"^\${NAME.pattern}$"}
_TEXT = {"type": "string"}
_BOOLEAN = {"type": "boolean"}
_SINGLE = {"type": ["string", "number"]}
_ORDERS = ("lt", "le", "gt", "ge")
_SCAPY = r"^scapy\.[A-Za-z0-9_]+\.[A-Za-z0-9_.]+$"


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _mapping(required: Json, optional: Json | None = None) -> Json:
    """A mapping with these keys and no others."""
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _any(*schemas: Json) -> Json:
    return {"anyOf": list(schemas)}


def _or_list(schema: Json) -> Json:
    return _any(schema, {"type": "array", "items": schema, "minItems": 1})


def _or_reference(schema: Json) -> Json:
    return _any(schema, _ref("reference"))


def _words(words: Iterable[str]) -> Json:
    return {"enum": [str(word) for word in words]}


def _comparison(kind: Type) -> Json:
    """A value of a type: alone, negated, in a list (also of lists that a reference stands for), or compared."""
    this = _ref(f"value-{kind}")
    forms: Json = {"not": this}
    if kind in (Type.NUMBER, Type.MARK):
        forms |= dict.fromkeys(_ORDERS, _SINGLE)
    if kind in (Type.TEXT, Type.BYTES):
        forms |= {test.value: _or_list(_TEXT) for test in TextTest}
        forms |= {"hex": _or_list(_SINGLE), "length": _ref(f"value-{Type.NUMBER}")}
    single = _TEXT if kind in (Type.ADDRESS, Type.TEXT, Type.BYTES) else _SINGLE
    compared = {"type": "object", "properties": forms, "additionalProperties": False, "minProperties": 1}
    return _any(single, {"type": "array", "items": this, "minItems": 1}, compared)


def _field(row: Field) -> Json:
    unit = f" ({row.unit})" if row.unit else ""
    return {"description": f"{row.doc}{unit}", **_ref(f"value-{row.type}")}


def _inner(kind: Type) -> tuple[str, Json]:
    """The keys of that type for a packet inside a tunnel."""
    names = [name for name, row in FIELDS.items() if row.layer is not Layer.META and row.type is kind]
    pattern = rf"^(inner\.){{1,{MAX_DEPTH}}}({'|'.join(map(re.escape, names))})$"
    return pattern, {"description": "that field of the packet inside the tunnel", **_ref(f"value-{kind}")}


def _match() -> Json:
    """The keys of `match:`, from the field table."""
    blocks = {name: _or_list(_or_reference(_ref("match"))) for name in BLOCKS}
    special = {"bytes": _or_list(_or_reference(_ref("bytes"))), "python": _or_list(_TEXT)}
    return {
        "type": "object",
        "properties": {name: _field(row) for name, row in FIELDS.items()} | blocks | special,
        "patternProperties": dict(map(_inner, Type)) | {_SCAPY: {"description": "a field of a scapy layer"}},
        "additionalProperties": False,
    }


def _bytes() -> Json:
    place = {"base": _words(Base), "offset": {"type": "integer", "minimum": 0, "maximum": 0xFFFF}, "value": _SINGLE}
    plain = _mapping({name: _or_reference(schema) for name, schema in place.items()}, {"mask": _SINGLE})
    return _any(plain, _mapping({"not": _or_list(_or_reference(_ref("bytes")))}))


def _verdict(*kinds: Kind) -> Json:
    """What `parse_verdict` reads, of these kinds."""
    forms = [{"type": "string", "pattern": f"^({'|'.join(kinds)})( .+)?$"}]
    if Kind.REJECT in kinds:
        forms.append(_mapping({"reject": _or_reference(_words(RejectWith))}))
    if Kind.QUEUE in kinds:
        forms.append(_mapping({"queue": _or_reference({"type": "integer", "minimum": 0, "maximum": 0xFFFF})}))
    return _any(*forms)


def _described(name: str) -> Json:
    """A value of a packet that a test describes."""
    return _any(_PLAIN, _mapping({"hex": _SINGLE})) if FIELDS[name].type is Type.BYTES else _PLAIN


_FIELD = _or_reference(_words(FIELDS))
_FLAG = _or_reference(_BOOLEAN)
_UPDATE = {"set": _TEXT, "element": _FIELD}
_PLAIN = _any(_SINGLE, _BOOLEAN, {"type": "array", "items": _SINGLE})

SHAPES: dict[str, Json] = {
    "reference": {"description": "a definition or a set, by its name", **_REFERENCE},
    **{f"value-{kind}": _comparison(kind) for kind in Type},
    "match": _match(),
    "bytes": _bytes(),
    "verdict": _verdict(*Kind),
    "default": _verdict(Kind.ACCEPT, Kind.DROP, Kind.REJECT),
    "limit": _mapping({"rate": _TEXT}, {"burst": _SINGLE, "per": _or_list(_FIELD), "over": _FLAG}),
    "log": _any(_BOOLEAN, _mapping({"prefix": _TEXT})),
    "count": _TEXT,
    "mark": _any(_SINGLE, _mapping({"set": _SINGLE}, {"mask": _SINGLE})),
    "add": _mapping(_UPDATE, {"timeout": _ref("duration")}),
    "delete": _mapping(_UPDATE),
    "capture": _mapping({"file": _TEXT, "max": _ref("size")}),
    "duration": {"description": "90s, 10m, 1h30m, 100ms, or seconds", **_SINGLE},
    "size": {"description": "64 KiB, 10 MiB, or bytes", **_SINGLE},
    "queue-number": {"description": "a queue, or a range such as 0-3", **_SINGLE},
    "path": {"description": "a path below this file's folder", **_TEXT},
    "paths": {"description": "paths or globs below this file's folder", **_or_list(_TEXT)},
    "elements": _or_list(_SINGLE),
    "packet": {
        "type": "object",
        "properties": {name: {"description": FIELDS[name].doc, **_described(name)} for name in sorted(BUILDABLE)},
        "required": ["hook"],
        "additionalProperties": False,
    },
    "define": {"type": "object", "propertyNames": {"pattern": f"^{NAME.pattern}$"}},
}

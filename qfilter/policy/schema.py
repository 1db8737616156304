"""The JSON Schema of policy files, from the models and the field table that the loader itself uses."""

from __future__ import annotations

from typing import Any

from qfilter.policy.binding import Json
from qfilter.policy.document import IncludedDocument, PolicyDocument, SetDocument
from qfilter.policy.scope import NAME
from qfilter.policy.shapes import SHAPES


def json_schema(*, included: bool = False) -> Json:
    """The schema (draft 2020-12) of a policy, or of a file that a policy includes."""
    schema = _tidy((IncludedDocument if included else PolicyDocument).model_json_schema())
    one_set = _tidy(SetDocument.model_json_schema())
    definitions = schema.pop("$defs") | one_set.pop("$defs", {}) | SHAPES
    definitions["set"] = one_set
    definitions["sets"] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/set"},
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _tidy(value: Any) -> Any:
    """Without generated titles and nulls (no key may be null), and with the shapes in place of their names."""
    if isinstance(value, list):
        return [_tidy(item) for item in value if item != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    if "x-shape" in value:
        shape = {"$ref": f"#/$defs/{value['x-shape']}"}
        return shape if value["x-shape"] == "reference" else {"anyOf": [shape, {"$ref": "#/$defs/reference"}]}
    kept = {
        key: _tidy(item)
        for key, item in value.items()
        if not (key == "title" and isinstance(item, str)) and not (key == "default" and item is None)
    }
    return kept["anyOf"][0] if list(kept) == ["anyOf"] and len(kept["anyOf"]) == 1 else kept

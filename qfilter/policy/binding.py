"""How pydantic models read nodes: they keep the positions, resolve references and report every mistake where it stands.

A value that is wrong is reported and becomes its default; the load fails in the end, but all the rest is looked at.
The validation context is the Scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticUseDefault, core_schema

from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import nearest
from qfilter.policy.scope import Scope
from qfilter.policy.values import describe, flatten, resolved

Json = dict[str, Any]

LEFT_OUT = object()
"""Stands for a wrong value of a list."""

_EXPECTED = {"int": "a whole number", "bool": "true or false", "string": "text"}


class Entries(BaseModel):
    """A mapping whose keys are the fields of the model. Reading one never raises: it is None when a key is missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _node: Mapping = PrivateAttr()

    @property
    def node(self) -> Mapping:
        """What the model was read from."""
        return self._node

    @classmethod
    def keys(cls) -> Iterable[str]:
        """The keys that the mapping may have."""
        return cls.model_fields

    @classmethod
    def read(cls, node: Node, scope: Scope) -> Self | None:
        """The model of a node, or None after a problem was reported."""
        model: Self | None = cls.model_validate(node, context=scope)
        return model

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, node: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        scope = _scope(info)
        mapping = resolved(node, scope, "a value")
        if not isinstance(mapping, Mapping):
            if mapping is not None:
                scope.problems.error(
                    "wrong-type", node, f"{describe(mapping)}: expected a mapping with {_listed(cls.keys())}"
                )
            return cast("Self", None)
        values = dict(cls._known(mapping, scope))
        try:
            model = handler(values)
        except ValidationError as error:
            for missing in {str(found["loc"][-1]) for found in error.errors(include_url=False)} - values.keys():
                scope.problems.error("missing-key", mapping, f"key {missing!r} is missing here")
            return cast("Self", None)
        model._node = mapping
        return model

    @classmethod
    def _known(cls, mapping: Mapping, scope: Scope) -> Iterator[tuple[str, Node]]:
        known = cls.keys()
        for key, child in mapping.entries:
            if key.text in known:
                yield key.text, child
            else:
                message = f"unknown key {key.text!r}: expected {_listed(known)}"
                scope.problems.error("unknown-key", key, message, suggestion=nearest(key.text, known))


def _scope(info: ValidationInfo) -> Scope:
    assert isinstance(info.context, Scope)
    return info.context


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(keys)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value that pydantic checks."""

    kind: str | None = None
    """The problem's kind, where it is not told by what is wrong."""
    one_of: tuple[str, ...] = ()
    """The only values, where the type does not say them."""
    instead: Any = None
    """What a wrong value counts as where the field has no default."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = core_schema.literal_schema(list(map(str, self.one_of))) if self.one_of else handler(source)
        return core_schema.with_info_wrap_validator_function(self._read, inner)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"anyOf": [handler(schema), {"x-shape": "reference"}]}

    def _read(self, node: Node, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        scope = _scope(info)
        found = resolved(node, scope, "a value")
        if found is None:
            return self._broken()
        value = found.value if isinstance(found, Scalar) else found
        try:
            return handler(value)
        except ValidationError as error:
            kind, message, suggestion = _explained(error.errors(include_url=False)[0], found)
            scope.problems.error(self.kind or kind, node, message, suggestion=suggestion)
            return self._broken()

    def _broken(self) -> Any:
        if self.instead is None:
            raise PydanticUseDefault
        return self.instead


def _explained(error: ErrorDetails, node: Node) -> tuple[str, str, str | None]:
    """Kind, message and suggestion for what pydantic found wrong with a value."""
    kind, context = error["type"], error.get("ctx", {})
    what = describe(node)
    if kind in ("enum", "literal_error"):
        names = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        if not isinstance(node, Scalar):
            return "wrong-type", f"{what}: expected one of {', '.join(names)}", None
        return (
            "unknown-name",
            f"{what}: expected {'one of ' if names[1:] else ''}{', '.join(names)}",
            nearest(node.text, names),
        )
    if kind == "greater_than_equal":
        return "out-of-range", f"{what}: expected at least {context['ge']}", None
    if kind == "less_than_equal":
        return "out-of-range", f"{what}: expected at most {context['le']}", None
    if kind == "string_pattern_mismatch":
        return "bad-value", f"{what}: expected letters, digits, and any of _ . - behind the first", None
    return "wrong-type", f"{what}: expected {_EXPECTED[kind.partition('_')[0]]}", None


@dataclass(frozen=True, slots=True)
class Many:
    """A list of values, or one value alone. A reference to a list among them means its items."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}

    def _read(self, node: Node, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        return tuple(value for value in handler(tuple(flatten(node, _scope(info)))) if value is not LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Items:
    """A list, and nothing else, of mappings."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._read, handler(source))

    def _read(self, node: Node, handler: Callable[[Any], Any], info: ValidationInfo) -> Any:
        scope = _scope(info)
        found = resolved(node, scope, "a value")
        if isinstance(found, Sequence):
            return tuple(model for model in handler(found.items) if model is not None)
        if found is not None:
            scope.problems.error("wrong-type", node, f"{describe(found)}: expected a list")
        return ()


@dataclass(frozen=True, slots=True)
class Raw:
    """A node that another file of this room reads; `shape` is its JSON Schema in `qfilter.policy.shapes`."""

    shape: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"x-shape": self.shape}


Text = Annotated[StrictStr, Leaf()]
Flag = Annotated[StrictBool, Leaf()]

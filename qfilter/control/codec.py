"""Messages as lines: one JSON object in ASCII, `{"version": 1, "message": {"kind": ...}}`. Pure.

Whatever the bytes are, reading them gives a message of the vocabulary or a ControlError that says where it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from qfilter.control.messages import Answer, Request
from qfilter.errors import ControlError
from qfilter.events.record import encode as encode_line

VERSION: Literal[1] = 1
MAX_REQUEST = 1 << 20
"""Bytes of a request with the end of its line."""
MAX_ANSWER = 1 << 26
"""Bytes of an answer with the end of its line."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Asked:
    version: Literal[1]
    message: Annotated[Request, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class _Answered:
    version: Literal[1]
    message: Annotated[Answer, Field(discriminator="kind")]


def encode_request(request: Request) -> bytes:
    """One line. Raises ControlError when it is longer than MAX_REQUEST."""
    line = encode_line(_requests().dump_python(_Asked(VERSION, request), mode="json"))
    return _bounded(line, MAX_REQUEST, "request")


def encode_answer(answer: Answer) -> bytes:
    """One line. Raises ControlError when it is longer than MAX_ANSWER."""
    line = encode_line(_answers().dump_python(_Answered(VERSION, answer), mode="json"))
    return _bounded(line, MAX_ANSWER, "answer")


def decode_request(line: bytes) -> Request:
    """The request of a line. Raises ControlError and nothing else."""
    _bounded(line, MAX_REQUEST, "request")
    try:
        return _requests().validate_json(line, strict=True).message
    except ValidationError as wrong:
        raise _mistake("request", wrong) from None


def decode_answer(line: bytes) -> Answer:
    """The answer of a line. Raises ControlError and nothing else."""
    _bounded(line, MAX_ANSWER, "answer")
    try:
        return _answers().validate_json(line, strict=True).message
    except ValidationError as wrong:
        raise _mistake("answer", wrong) from None


@cache
def _requests() -> TypeAdapter[_Asked]:
    return TypeAdapter(_Asked)


@cache
def _answers() -> TypeAdapter[_Answered]:
    return TypeAdapter(_Answered)


def _bounded(line: bytes, most: int, what: str) -> bytes:
    if len(line) > most:
        raise ControlError(f"{what} of {len(line)} bytes: expected at most {most}")
    return line


def _mistake(what: str, wrong: ValidationError) -> ControlError:
    """The first mistake, such as `request: message.path: 5: input should be a valid string`."""
    first = wrong.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    value = repr(first["input"])
    shown = value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ControlError(": ".join(part for part in (what, where, shown, message) if part))

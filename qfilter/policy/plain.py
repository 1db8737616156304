"""What a plain YAML scalar is: YAML 1.2's core schema, and the values that YAML 1.1 would have read otherwise."""

from __future__ import annotations

import re
from functools import lru_cache

Value = str | int | float | bool | None

MAX_DIGITS = 100
"""Longest number; Python refuses to print very long ones."""

_WORDS: dict[str, Value] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True)
_WORDS |= dict.fromkeys(("false", "False", "FALSE"), False)

_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_TRAPS = (
    (re.compile(r"(?i:yes|no|on|off)"), "YAML 1.1 reads it as true or false; quote it, or write true or false"),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "YAML 1.1 reads it as a number in base 60; quote it, or write a range as 22-25",
    ),
    (
        re.compile(r"[-+]?0[0-9_]+"),
        "YAML 1.1 reads it as octal; write it without the leading zero, as 0x.. in hexadecimal, or quote it",
    ),
    (re.compile(r"[-+]?0b[01_]+"), "YAML 1.1 reads it as binary; write it in decimal or as 0x.., or quote it"),
    (
        re.compile(r"[-+]?(0x[0-9a-fA-F_]*_[0-9a-fA-F_]*|[0-9.][0-9_.]*_[0-9_.]*([eE][-+]?[0-9]+)?)"),
        "YAML 1.1 reads it as a number with the underscores left out; write the digits only, or quote it",
    ),
)


@lru_cache(maxsize=65_536)
def value(text: str) -> Value:
    """The value of a plain scalar. Raises ValueError for a number of more than MAX_DIGITS digits."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "0123456789+-.":
        return text
    if _FLOAT.fullmatch(text) is None and _BASED.fullmatch(text) is None:
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters: expected at most {MAX_DIGITS}")
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(re.sub(r"\.(?=[a-zA-Z])", "", text))


@lru_cache(maxsize=65_536)
def trap(text: str) -> str | None:
    """Why YAML 1.1 reads a plain scalar differently and how to write it, or None."""
    return next((why for pattern, why in _TRAPS if pattern.fullmatch(text)), None)

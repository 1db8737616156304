"""The one regular-expression engine: RE2, whose time is linear in the text, so that no packet can hang a verdict."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import re2

MAX_PATTERN = 4_096
"""Bytes of one pattern."""


class Pattern(Protocol):
    """A compiled pattern."""

    def search(self, text: bytes) -> object | None:
        """A match anywhere in the text, or None."""


@cache
def compile_pattern(pattern: bytes) -> Pattern:
    """Compile a pattern for bytes, each of which is one character (Latin-1). Raises ValueError with RE2's own words."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"{len(pattern)} bytes: expected at most {MAX_PATTERN}")
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        compiled: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else "not a regular expression"
        raise ValueError(words.decode("latin-1") if isinstance(words, bytes) else str(words)) from None
    return compiled

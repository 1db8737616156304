"""Code that may raise anything: scapy's dissectors, the operator's predicates, the core where it panics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from qfilter.engine.describe import in_words
from qfilter.engine.value import Unknown
from qfilter.errors import is_interrupt
from qfilter.model.verdict import Reason

_T = TypeVar("_T")


def attempt(ask: Callable[[], _T]) -> _T | Unknown:
    """What it answers; or unknown, cause `error`, when it raises: that must become neither "no match" nor the end."""
    try:
        return ask()
    except BaseException as error:
        if is_interrupt(error):
            raise
        return Unknown(Reason.ERROR, in_words(error))

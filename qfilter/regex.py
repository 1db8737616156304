"""The one regular-expression language: RE2, whose time is linear in the text, so that no packet can hang a verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
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
    try:
        return _compile(pattern)
    except re2.error as error:
        words = error.args[0] if error.args else "not a regular expression"
        raise ValueError(words.decode("latin-1") if isinstance(words, bytes) else str(words)) from None


def _compile(pattern: bytes) -> Pattern:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = 8 << 20
    compiled: Pattern = re2.compile(pattern, options)
    return compiled


MAX_WEIGHT = 10_000
"""Byte ranges of a translated pattern, repetitions written out. What is larger could hit the crate's size limit."""

MAX_NESTING = 50
"""Groups inside groups of a translated pattern: the crate counts up to four levels for each and takes 250."""

# RE2's syntax (https://github.com/google/re2/wiki/Syntax) for patterns that RE2 has taken: what it refuses does not
# matter. Nothing is tried twice: a token is the first that fits, as in RE2's own parser (parse.cc).
_TOKEN = re.compile(
    rb"""
      \\Q (?P<quoted> .*? ) (?: \\E | \Z )
    | (?P<edge> [\^$] | \\[AzbB] )
    | (?P<repeat> (?: [*+?] | \{ (?P<least> NUMBER ) (?P<more> , (?P<most> NUMBER )? )? \} ) ) \??
    | (?P<flags> \(\? (?P<on> [imsU]* ) (?: - (?P<off> [imsU]+ ) )? (?P<scope> [:)] ) )
    | (?P<open> \( (?: \?P?< [^>]+ > )? )
    | (?P<close> \) )
    | (?P<bar> \| )
    | (?P<byte> CLASS | GROUP | CHARACTER )
    """.replace(b"NUMBER", rb"(?: 0 | [1-9][0-9]* )")
    .replace(b"CLASS", rb"\[ \^? (?: \] RANGE )? (?> \[:\^?[a-z]+:\] | GROUP | (?!\]) CHARACTER RANGE )*+ \]")
    .replace(b"RANGE", rb"(?> - (?!\]) CHARACTER )?+")
    .replace(b"GROUP", rb"\\ (?> [pP] (?: \{ [^}]* \} | . ) | [dDsSwW] )")
    .replace(b"CHARACTER", rb"(?> \\x\{ [^}]* \} | \\x.. | \\[0-7]{1,3} | \\. | . )"),
    re.VERBOSE | re.DOTALL,
)
_EDGES = {b"^": r"\A", b"$": r"\z", b"\\A": r"\A", b"\\z": r"\z", b"\\b": r"\b", b"\\B": r"\B"}
_LINE_EDGES = _EDGES | {b"^": "(?m:^)", b"$": "(?m:$)"}


@cache
def translate(pattern: bytes) -> str | None:
    """A pattern that `compile_pattern` takes, in the syntax of Rust's crate `regex` for bytes (regex-syntax 0.8).

    Both find something in the same texts. None where that is in doubt: RE2 must then be asked. Every set of bytes is
    written out as RE2 itself understands it, so that no flag, class or escape is left to mean something else there.
    Greed decides what is found but not whether, and is left out.
    """
    return _Translation().run(pattern)


@dataclass(slots=True)
class _Group:
    """A group while its end has not come."""

    flags: frozenset[str] = frozenset()
    text: list[str] = field(default_factory=list)
    weight: int = 0
    last: int | None = None
    """The weight of what a repetition would repeat; None where nothing stands that it could mean without doubt."""

    def add(self, text: str, weight: int | None) -> None:
        self.text.append(text)
        self.weight += weight or 0
        self.last = weight


class _Translation:
    def __init__(self) -> None:
        self._groups = [_Group()]

    def run(self, pattern: bytes) -> str | None:
        tokens = _TOKEN.finditer(pattern)
        if not all(map(self._take, tokens)) or self._groups[0].weight > MAX_WEIGHT:
            return None
        return "(?-u)" + "".join(self._groups[0].text)

    def _take(self, token: re.Match[bytes]) -> bool:
        """Take the next token; False where it is in doubt."""
        group = self._groups[-1]
        match token.lastgroup:
            case "quoted":
                for byte in token["quoted"]:
                    group.add(*_written(_alike(byte, group.flags)))
                return bool(token["quoted"])
            case "edge":
                group.add((_LINE_EDGES if "m" in group.flags else _EDGES)[token["edge"]], 1)
            case "flags":
                self._flags(token)
            case "open":
                self._groups.append(_Group(group.flags))
            case "close":
                self._close()
            case "bar":
                group.add("|", None)
            case "byte":
                group.add(*_written(_meant(token["byte"], group.flags)))
            case _:
                return self._repeat(token)
        return len(self._groups) <= MAX_NESTING

    def _flags(self, token: re.Match[bytes]) -> None:
        group = self._groups[-1]
        off = frozenset((token["off"] or b"").decode())
        flags = (group.flags | frozenset(token["on"].decode())) - off
        if token["scope"] == b":":
            self._groups.append(_Group(flags))
        else:
            group.flags, group.last = flags, None

    def _close(self) -> None:
        inner = self._groups.pop()
        self._groups[-1].add(f"(?:{''.join(inner.text)})", max(inner.weight, 1))

    def _repeat(self, token: re.Match[bytes]) -> bool:
        group = self._groups[-1]
        if group.last is None:
            return False
        times = max(int(token["least"] or 1), int(token["most"] or 1)) + (token["more"] == b",")
        group.weight += group.last * (times - 1)
        group.text.append(token["repeat"].decode())
        group.last = None
        return group.weight <= MAX_WEIGHT


def _alike(byte: int, flags: frozenset[str]) -> bytes:
    """A literal byte, and with `i` those that RE2 takes for the same letter."""
    return _understood(b"\\x%02x" % byte, frozenset("i")) if "i" in flags else bytes([byte])


def _meant(token: bytes, flags: frozenset[str]) -> bytes:
    """The bytes that a token for one byte matches, in ascending order."""
    return _alike(token[0], flags) if token[0] not in b".[\\" else _understood(token, flags & {"i", "s"})


@cache
def _understood(token: bytes, flags: frozenset[str]) -> bytes:
    compiled = _compile(b"(?%s)\\A(?:%s)\\z" % ("".join(sorted(flags)).encode(), token))
    return bytes(byte for byte in range(256) if compiled.search(bytes([byte])))


def _written(found: bytes) -> tuple[str, int]:
    """A set of bytes as a literal or a class of ranges, and how many ranges it has."""
    members = frozenset(found)
    starts = [byte for byte in found if byte - 1 not in members]
    ends = [byte for byte in found if byte + 1 not in members]
    ranges = [
        _literal(low) if low == high else f"{_literal(low)}-{_literal(high)}"
        for low, high in zip(starts, ends, strict=True)
    ]
    if len(found) == 1:
        return ranges[0], 1
    return f"[{''.join(ranges)}]" if ranges else r"[^\x00-\xff]", max(len(ranges), 1)


def _literal(byte: int) -> str:
    return chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"\\x{byte:02x}"

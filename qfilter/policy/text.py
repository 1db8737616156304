"""Bytes to text and lines: UTF-8, and no character that could hide something from whoever reads the file."""

from __future__ import annotations

import re

from qfilter.errors import Position
from qfilter.policy.problems import Problems

LINE_BREAK = re.compile(r"\r\n|\n|\r")

# Characters that YAML forbids, and the line breaks of YAML 1.1 that no editor shows as such: what looks like the end of
# a comment could be a rule.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_PLAIN = bytes([*b"\t\n\r", *range(0x20, 0x7F)])
"""What most files are made of. It is UTF-8 and hides nothing, and is told at once."""


def readable(data: bytes, file: str, problems: Problems) -> bool:
    """Whether it is such a text; what keeps it from being one is reported."""
    return not data.translate(None, _PLAIN) or decode(data, file, problems) is not None


def decode(data: bytes, file: str, problems: Problems) -> str | None:
    """The text, or None after its bytes or characters were reported."""
    if not data.translate(None, _PLAIN):
        return data.decode("ascii")
    start = Position(file, 1, 1)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add("encoding", start, "the file is UTF-16: expected UTF-8")
        return None
    if data.startswith(b"\xef\xbb\xbf"):
        problems.add("encoding", start, "the file begins with a byte order mark: expected UTF-8 without one")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        lines = LINE_BREAK.split(data[: error.start].decode("utf-8"))
        at = Position(file, len(lines), len(lines[-1]) + 1)
        problems.add("encoding", at, f"byte 0x{data[error.start]:02x} is not UTF-8")
        return None
    if _FORBIDDEN.search(text) is None:
        return text
    for number, line in enumerate(LINE_BREAK.split(text), start=1):
        for found in _FORBIDDEN.finditer(line):
            at = Position(file, number, found.start() + 1)
            problems.add("control-character", at, f"character U+{ord(found[0]):04X} cannot stand in a policy")
    return None

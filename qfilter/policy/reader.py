"""Bytes to nodes. PyYAML only splits the text into events; nothing is ever constructed from a tag.

The tree is built from the events with a stack of its own: however deep a document nests, neither Python nor the C
parser recurses, and the limits stop a hostile document before it costs more than its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from qfilter.errors import Position
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.plain import trap, value
from qfilter.policy.problems import Problems
from qfilter.policy.text import decode

MAX_DEPTH = 64
MAX_NODES = 2_000_000
"""Nodes of a file as it is written."""
MAX_EXPANDED = 100_000
"""Nodes that aliases may add to a file."""

_LOADER: Any = getattr(yaml, "CLoader", yaml.Loader)
_SYNTAX_HINTS = {
    "\t": "a tab cannot start a value: indent with spaces",
    "@": "'@' cannot start a plain value: quote it",
    "`": "'`' cannot start a plain value: quote it",
    "%": "'%' cannot start a plain value: quote it",
}


class _StopError(Exception):
    """The rest of the file cannot be read; the problem has been reported."""


def read(data: bytes, file: str, problems: Problems) -> Node | None:
    """The one document of a file; None when it has none or cannot be read to its end. Raises nothing."""
    text = decode(data, file, problems)
    if text is None:
        return None
    builder = _Builder(file, problems)
    try:
        for event in _events(text, file, problems):
            builder.take(event)
    except _StopError:
        return None
    if builder.root is None:
        problems.add(
            "empty", Position(file, 1, 1), "the file is empty: expected a mapping that begins with 'version: 1'"
        )
    return builder.root


def _events(text: str, file: str, problems: Problems) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark, message = _explained(error, text)
        at = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
        problems.add("yaml-syntax", at, message)
        raise _StopError from None


def _explained(error: yaml.MarkedYAMLError, text: str) -> tuple[yaml.Mark | None, str]:
    """Where the text is not YAML, and why: PyYAML's words, except for the usual slips."""
    if error.context in ("while scanning an alias", "while scanning an anchor"):
        sign = "'*' begins an alias" if error.context.endswith("alias") else "'&' begins an anchor"
        return error.context_mark, f"{sign}: quote it to mean the text"
    tag = error.context_mark if error.context == "while scanning a tag" else None
    if tag and not text.startswith("!!", tag.index):
        return tag, "'!' begins a YAML tag: not is written {not: value}; quote it to mean the text"
    if error.problem_mark and "cannot start any token" in (error.problem or ""):
        hint = _SYNTAX_HINTS.get(text[error.problem_mark.index])
        if hint:
            return error.problem_mark, hint
    parts = [error.problem or "not YAML"]
    if error.context:
        parts.append(error.context)
    if error.context_mark and error.context:
        parts.append(f"that began at {error.context_mark.line + 1}:{error.context_mark.column + 1}")
    return error.problem_mark or error.context_mark, " ".join(parts)


def _about_tag(tag: str) -> str:
    """What is wrong about a tag. `!wan` is one to YAML, and hardly ever meant as one."""
    if tag.startswith("!") and not tag.startswith("!!"):
        name = tag.lstrip("!=")
        return f"tag {tag!r}: '!' begins a YAML tag: not is written {{not: {name or 'value'}}}"
    return f"tag {tag!r}: tags are not taken, write the plain value"


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is not at its end yet."""

    at: Position
    width: int
    anchor: str | None
    mapping: bool
    nodes: list[Node] = field(default_factory=list)
    """Items; of a mapping, keys and values in turn."""
    size: int = 1
    """Nodes inside, aliases expanded, this one included."""


@dataclass(slots=True)
class _Builder:
    """Events in, one tree out."""

    file: str
    problems: Problems
    root: Node | None = None
    _open: list[_Frame] = field(default_factory=list)
    _anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _nodes: int = 0
    _expanded: int = 0
    _documents: int = 0

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._start(event, mapping=kind is yaml.MappingStartEvent)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end()
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self._stop(
                    "several-documents", self._at(event), 3, "a second document begins here: expected one a file"
                )

    def _scalar(self, event: Any) -> None:
        start, end, text = event.start_mark, event.end_mark, event.value
        at = Position(self.file, start.line + 1, start.column + 1)
        if start.line == end.line:
            width = max(end.column - start.column, 1)
        else:
            width = max(len(self.problems.line(at).rstrip()) - start.column, 1)
        self._check_tag(event, at)
        if event.style:
            node = Scalar(text, text, at, width, quoted=True)
        else:
            node = Scalar(self._plain(text, at, width), text, at, width)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1)
        self._count(at)
        self._add(node, 1)

    def _plain(self, text: str, at: Position, width: int) -> str | int | float | bool | None:
        why = trap(text)
        if why is not None:
            self.problems.add("yaml-trap", at, f"plain {text!r}: {why}", width=width)
            return text
        try:
            return value(text)
        except ValueError as error:
            self.problems.add("out-of-range", at, str(error), width=width)
            return 0

    def _start(self, event: Any, *, mapping: bool) -> None:
        at = self._at(event)
        self._check_tag(event, at)
        self._count(at)
        if len(self._open) >= MAX_DEPTH:
            self._stop("too-deep", at, 1, f"more than {MAX_DEPTH} lists and mappings inside each other")
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open.append(_Frame(at, 1, event.anchor, mapping))

    def _end(self) -> None:
        frame = self._open.pop()
        node = self._mapping(frame) if frame.mapping else Sequence(tuple(frame.nodes), frame.at, frame.width)
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (node, frame.size)
        self._add(node, frame.size)

    def _alias(self, event: Any) -> None:
        at, name = self._at(event), event.anchor
        width = len(name) + 1
        if any(frame.anchor == name for frame in self._open) and name not in self._anchors:
            self._stop("cyclic", at, width, f"alias '*{name}' stands inside what it refers to")
        if name not in self._anchors:
            self.problems.add("undefined", at, f"alias '*{name}' refers to no anchor before it", width=width)
            self._add(Scalar(None, "", at, width), 1)
            return
        node, size = self._anchors[name]
        self._expanded += size
        if self._expanded > MAX_EXPANDED:
            self._stop("alias-bomb", at, width, f"aliases add more than {MAX_EXPANDED:,} nodes")
        self._add(node, size)

    def _add(self, node: Node, size: int) -> None:
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        frame.nodes.append(node)
        frame.size += size

    def _mapping(self, frame: _Frame) -> Mapping:
        entries: list[tuple[Scalar, Node]] = []
        seen: dict[str, Position] = {}
        keys_and_values = iter(frame.nodes)
        for key, node in zip(keys_and_values, keys_and_values, strict=True):
            if not self._is_key(key):
                continue
            assert isinstance(key, Scalar)
            if key.text in seen:
                where = seen[key.text]
                self.problems.error(
                    "duplicate-key", key, f"key {key.text!r} already stands at {where.line}:{where.column}"
                )
                continue
            seen[key.text] = key.at
            entries.append((key, node))
        return Mapping(tuple(entries), frame.at, frame.width)

    def _is_key(self, key: Node) -> bool:
        if not isinstance(key, Scalar):
            self.problems.error("key-type", key, "a list or mapping cannot be a key: expected text")
        elif key.text == "<<" and not key.quoted:
            self.problems.error(
                "merge-key", key, "merge key '<<' is not part of YAML 1.2: repeat the keys, or use define:"
            )
        elif not isinstance(key.value, str):
            self.problems.error(
                "key-type", key, f"key {key.text!r} is not text: write '{key.text}' in quotes to mean it"
            )
        else:
            return True
        return False

    def _check_tag(self, event: Any, at: Position) -> None:
        if event.tag is not None:
            self.problems.add("tag", at, _about_tag(event.tag))

    def _count(self, at: Position) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop("too-large", at, 1, f"the file has more than {MAX_NODES:,} values")

    def _at(self, event: Any) -> Position:
        return Position(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _stop(self, kind: str, at: Position, width: int, message: str) -> None:
        self.problems.add(kind, at, message, width=width)
        raise _StopError

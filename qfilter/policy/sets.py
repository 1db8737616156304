"""`sets:`, inline and from files. A set file has one element a line and `#` comments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qfilter.errors import Position
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition, SetType, Strings
from qfilter.policy.confine import PathError, locate
from qfilter.policy.definitions import Declared
from qfilter.policy.document import SetDocument
from qfilter.policy.include import File
from qfilter.policy.node import Node
from qfilter.policy.scope import Scope
from qfilter.policy.sources import MAX_LIST_BYTES, Sources, UnreadableError
from qfilter.policy.text import readable
from qfilter.policy.values import BadValueError, Elements, parse_duration, parse_elements, text_of

MAX_PROBLEMS = 100
"""Bad lines of one file that are reported one by one."""

_COMMENT = re.compile(r"(^|\s)#.*")


def placeholder(entry: Declared) -> SetDefinition:
    """What a set's name stands for until its elements are read: enough to say that a set cannot stand somewhere."""
    return SetDefinition(name=entry.name, type=SetType.STRING, at=entry.key.at, elements=Strings(frozenset()))


@dataclass(frozen=True, slots=True)
class SetReader:
    """Reads sets, and the files that they name."""

    scope: Scope
    sources: Sources
    folder: Path

    def read(self, entry: Declared, near: File) -> SetDefinition | None:
        """The set of an entry, or None after problems. `near` is the file that holds it."""
        document = SetDocument.read(entry.node, self.scope)
        if document is None:
            return None
        problems = self.scope.problems
        if document.elements is None and document.file is None and not document.dynamic:
            problems.error("missing-key", entry.node, f"set {entry.name!r}: expected elements, file or dynamic: true")
        for key in ("timeout", "size"):
            value = document.node.get(key)
            if value is not None and not document.dynamic:
                problems.error("missing-key", value, f"{key} of set {entry.name!r} needs dynamic: true")
        if document.elements is not None and document.file is not None:
            problems.error("contradiction", document.file, f"set {entry.name!r} has elements and file: expected one")
        elements: Addresses | Ranges | Strings
        if document.file is not None:
            elements = self._from_files(document.file, document.type, near)
        elif document.elements is not None:
            elements = parse_elements(document.type, document.elements, self.scope)
        else:
            elements = Elements(document.type).build()
        return SetDefinition(
            name=entry.name,
            type=document.type,
            at=entry.key.at,
            elements=elements,
            dynamic=document.dynamic,
            timeout=None if document.timeout is None else parse_duration(document.timeout, self.scope),
            size=document.size,
        )

    def _from_files(self, node: Node, type: SetType, near: File) -> Addresses | Ranges | Strings:
        elements = Elements(type)
        text = text_of(node, self.scope, "a path")
        if text is not None:
            for path in self._located(node, text, near):
                self._read_file(node, path, near.shown(path), elements)
        return elements.build()

    def _located(self, node: Node, text: str, near: File) -> list[Path]:
        try:
            return locate(text, near.path.parent, self.folder)
        except PathError as error:
            self.scope.problems.error("include", node, str(error))
            return []

    def _read_file(self, node: Node, path: Path, name: str, elements: Elements) -> None:
        problems = self.scope.problems
        try:
            data = self.sources.read(path, name, (node.at, *self.sources.stack(node.at.file)), MAX_LIST_BYTES)
        except UnreadableError as error:
            problems.error(error.kind, node, str(error))
            return
        if not readable(data, name, problems):
            return
        bad = 0
        for number, line in elements.add_lines(data):
            element = (_COMMENT.sub("", line) if "#" in line else line).strip()
            try:
                if element:
                    elements.add(element)
            except BadValueError as error:
                bad += 1
                if bad <= MAX_PROBLEMS:
                    at = Position(name, number, line.index(element) + 1)
                    problems.add(error.kind, at, error.message, width=len(element), suggestion=error.suggestion)
        if bad > MAX_PROBLEMS:
            problems.error("bad-value", node, f"{name!r} has {bad - MAX_PROBLEMS} more bad lines that are not shown")
        if not bad:
            self.sources.forget(name)

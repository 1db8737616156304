"""The files of a policy: `include:` at the top of a file, or as an entry of its rules, in explicit order.

`include:` at the top is the same as entries in front of the file's rules. A path is relative to the file that holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qfilter.errors import Position
from qfilter.policy.confine import PathError, locate
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import Problems
from qfilter.policy.reader import read
from qfilter.policy.sources import Sources, UnreadableError

_SHIPPED = ": copy the shipped rules/lib into the policy's folder"
MAX_FILES_DEEP = 8
"""How many files may include each other in a row."""


@dataclass(slots=True)
class File:
    """One YAML file of the policy."""

    name: str
    """What positions call it: the path as it was given, and behind it what the includes say."""
    path: Path
    root: Mapping
    has_rules: bool
    """Whether it, or a file that it includes, holds rules."""

    def shown(self, path: Path) -> str:
        """What positions call a file that this one names."""
        return str(Path(self.name).parent / path.relative_to(self.path.parent))


@dataclass(slots=True)
class Files:
    """The policy's file and everything that it includes."""

    sources: Sources
    problems: Problems
    folder: Path
    """The policy's folder as a real path."""
    found: list[File] = field(default_factory=list)
    """In the order in which they were read."""
    broken: bool = False
    """Whether a file that should be here is not: its names and rules are missing."""
    _at: dict[Position, tuple[File, ...]] = field(default_factory=dict)
    _first: dict[Path, tuple[File, Position]] = field(default_factory=dict)
    _open: list[Path] = field(default_factory=list)

    def main(self, data: bytes, name: str, path: Path) -> File | None:
        """Read the policy itself, whose text is known, and all that it includes."""
        return self._file(data, name, path, ())

    def included(self, node: Node | None) -> Iterator[File]:
        """The files that stand for the value of an `include`."""
        for scalar in _paths(node):
            if scalar.at not in self._at:
                # Rules that are silently missing would let packets through.
                self.problems.error("include", scalar, f"{scalar.text!r}: an include cannot stand behind a reference")
            yield from self._at.get(scalar.at, ())

    def _file(self, data: bytes, name: str, path: Path, stack: tuple[Position, ...]) -> File | None:
        root = read(data, name, self.problems)
        if root is None:
            return None
        if not isinstance(root, Mapping):
            self.problems.error("wrong-type", root, "expected a mapping with keys such as version, default and rules")
            return None
        rules = root.get("rules")
        file = File(name, path, root, rules is not None and rules != Sequence((), rules.at))
        self.found.append(file)
        self._open.append(path.resolve())
        for node in _includes(root):
            self._follow(node, file, stack)
        self._open.pop()
        return file

    def _follow(self, node: Node, file: File, stack: tuple[Position, ...]) -> None:
        if not isinstance(node, Scalar | Sequence):
            self._broken("wrong-type", node, "expected a path, or a list of paths")
            return
        for item in node.items if isinstance(node, Sequence) else (node,):
            self._at[item.at] = ()
            if not isinstance(item, Scalar) or not isinstance(item.value, str):
                self._broken("wrong-type", item, "expected a path as text")
                continue
            try:
                targets = locate(item.text, file.path.parent, self.folder)
            except PathError as error:
                shipped = item.text.startswith("lib/") and "matches no file" in str(error)
                self._broken("include", item, f"{error}{_SHIPPED if shipped else ''}")
                continue
            found = [self._target(target, file.shown(target), item, stack) for target in targets]
            self._at[item.at] = tuple(inner for inner in found if inner is not None)
            file.has_rules |= any(inner.has_rules for inner in self._at[item.at])

    def _target(self, target: Path, name: str, item: Scalar, stack: tuple[Position, ...]) -> File | None:
        real = target.resolve()
        if real in self._open:
            self._broken("include", item, f"{name!r} includes itself in the end")
            return None
        if len(self._open) >= MAX_FILES_DEEP:
            self._broken("include", item, f"more than {MAX_FILES_DEEP} files include each other in a row")
            return None
        if real in self._first:
            file, where = self._first[real]
            if file.has_rules:
                message = f"{name!r} is already included at {where}: rules can stand in one place only"
                self.problems.error("include", item, message)
            return None
        below = (item.at, *stack)
        try:
            data = self.sources.read(target, name, below)
        except UnreadableError as error:
            self._broken(error.kind, item, str(error))
            return None
        found = self._file(data, name, target, below)
        if found is None:
            self.broken = True
        else:
            self._first[real] = (found, item.at)
        return found

    def _broken(self, kind: str, node: Node, message: str) -> None:
        self.problems.error(kind, node, message)
        self.broken = True


def _includes(root: Mapping) -> Iterator[Node]:
    """The values of all `include` keys of a file, in the order in which their rules stand."""
    top = root.get("include")
    if top is not None:
        yield top
    yield from _entries(root.get("rules"))


def _entries(rules: Node | None) -> Iterator[Node]:
    for entry in rules.items if isinstance(rules, Sequence) else ():
        if isinstance(entry, Mapping):
            value = entry.get("include")
            if value is not None:
                yield value
            yield from _entries(entry.get("rules"))


def _paths(node: Node | None) -> Iterator[Scalar]:
    for item in node.items if isinstance(node, Sequence) else (node,):
        if isinstance(item, Scalar):
            yield item

"""YAML to Policy. Every mistake of every file is found before anything is said."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qfilter.errors import Diagnostic, PolicyError, Position
from qfilter.model.hook import Hook
from qfilter.model.malformed import Malformed
from qfilter.model.policy import Policy, TestCase
from qfilter.model.rule import Rule
from qfilter.policy import exempted, lint, repeat, settings
from qfilter.policy.definitions import Declared, declared, define, mentioned, unique
from qfilter.policy.document import IncludedDocument, PolicyDocument, TestsDocument
from qfilter.policy.include import File, Files
from qfilter.policy.node import Mapping as Node
from qfilter.policy.problems import Problems
from qfilter.policy.reader import read
from qfilter.policy.rules import RuleReader
from qfilter.policy.scope import Scope
from qfilter.policy.sets import SetReader, placeholder
from qfilter.policy.sources import Sources, UnreadableError
from qfilter.policy.text import LINE_BREAK

_PACKET = "<packet>"
_NAMES = ("define", "sets")
"""The sections of a file that make names, which share one namespace."""


def load(path: str) -> Policy:
    """The policy of a file and all that it includes. Raises PolicyError with every mistake; nothing else."""
    sources = Sources()
    file = Path(path)
    name = str(file)
    try:
        data = sources.read(file, name)
        folder = file.parent.resolve()
    except UnreadableError as error:
        raise _refused(name, error) from None
    return _load(data, name, file, folder, sources)


def loads(text: str | bytes, name: str = "<policy>", *, folder: Path | None = None) -> Policy:
    """The policy of a text. What it includes is looked for in `folder`, or the current one. Raises PolicyError only."""
    sources = Sources()
    near = Path() if folder is None else folder
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        sources.add(name, data)
    except UnreadableError as error:
        raise _refused(name, error) from None
    return _load(data, name, near / "<policy>", near.resolve(), sources)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """A policy is hundreds of thousands of objects that all stay: walking them again and again doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load_tests(path: str, policy: Policy) -> tuple[TestCase, ...]:
    """The tests of a file that has nothing else, for a policy that is loaded. Raises PolicyError only."""
    sources = Sources()
    try:
        data = sources.read(Path(path), path)
    except UnreadableError as error:
        raise _refused(path, error) from None
    problems = Problems(sources.line)
    root = read(data, path, problems)
    scope = Scope(problems, str(Path(path).parent.resolve()))
    document = None if root is None else TestsDocument.read(root, scope)
    ids = frozenset(_ids(policy.rules))
    found = [settings.case(entry, ids, scope) for entry in (document.tests if document else ())]
    cases = tuple(case for case in found if case is not None)
    lint.tests(cases, policy.defaults, path, problems)
    problems.check()
    return cases


@dataclass(frozen=True, slots=True)
class PacketText:
    """A packet as somebody described it: the values of its fields, and where these stand."""

    fields: Mapping[str, object]
    places: Mapping[str, Position]
    source: str

    def mistake(self, message: str) -> PolicyError:
        """What is wrong with the packet, at the field whose name the message begins with."""
        name = message.partition(" ")[0]
        at = self.places.get(name, Position(_PACKET, 1, 1))
        line = LINE_BREAK.split(self.source)[at.line - 1]
        width = len(name) if name in self.places else 1
        return PolicyError([Diagnostic(kind="bad-value", at=at, message=message, source=line, width=width)])


def load_packet(text: str) -> PacketText:
    """One packet as in `tests:`, such as `{saddr: 192.0.2.1, dport: 22}`, but for the hook, which it may leave out.

    Raises PolicyError only.
    """
    sources = Sources()
    data = text.encode("utf-8", "surrogatepass")
    try:
        sources.add(_PACKET, data)
    except UnreadableError as error:
        raise _refused(_PACKET, error) from None
    problems = Problems(sources.line)
    root = read(data, _PACKET, problems)
    fields = {} if root is None else dict(settings.packet_fields(root, Scope(problems, ""), needs_hook=False))
    problems.check()
    entries = root.entries if isinstance(root, Node) else ()
    return PacketText(fields, {key.text: key.at for key, _ in entries}, text)


def _refused(name: str, error: UnreadableError) -> PolicyError:
    return PolicyError([Diagnostic(kind=error.kind, at=Position(name, 1, 1), message=str(error))])


def _ids(rules: tuple[Rule, ...]) -> Iterator[str]:
    for rule in rules:
        yield rule.id
        yield from _ids(rule.rules)


@_collection_paused()
def _load(data: bytes, name: str, path: Path, folder: Path, sources: Sources) -> Policy:
    problems = Problems(sources.line, sources.stack)
    files = Files(sources, problems, folder)
    main = files.main(data, name, path)
    if main is None:
        raise PolicyError(problems.errors)
    if files.broken:
        problems.muted = frozenset({"undefined", "unused"})
    scope = Scope(problems, str(folder))
    names = _names(files, scope)
    documents = _documents(files, main, scope)
    document = documents.get(main.name)
    _sets(names, files, scope, sources, folder)
    for file, said in sources.writable.items():
        problems.add("writable", Position(file, 1, 1), said, severity="warning")
    reader = RuleReader(scope, files, documents, prefix=name.removesuffix(Path(name).name))
    rules = reader.read(main)
    cases = tuple(_cases(documents, reader, scope))
    if not isinstance(document, PolicyDocument):
        raise PolicyError(problems.errors)
    defaults = settings.defaults(document.default, scope)
    queue = settings.queue(document.queue, scope)
    if problems.errors:
        scope.used.update(name for file in files.found for name in mentioned(file.root))
    in_force = defaults if settings.whole(document.default, defaults) else tuple(Hook)
    lint.unused(names.values(), main.name, scope)
    lint.unreachable(rules, in_force, main.name, problems, reader.unread)
    lint.marks(rules, queue, problems)
    exempted.check(rules, queue, problems)
    lint.tests(cases, in_force, main.name, problems)
    repeat.check(rules, problems, reader.unread)
    problems.check()
    return Policy(
        path=name,
        digest=sources.digest,
        files=tuple(sources.texts),
        defaults=defaults,
        on_failure=settings.on_failure(document.on_failure),
        allow=frozenset(map(Malformed, document.allow)),
        queue=queue,
        sets={name: found for name, found in scope.sets.items() if found is not None},
        rules=rules,
        settings=settings.places(document),
        tests=tuple(case for case in cases if all(each["hook"] in defaults for each in (*case.after, case.packet))),
        warnings=problems.warnings,
    )


def _names(files: Files, scope: Scope) -> dict[str, Declared]:
    """Definitions go into the scope; a placeholder stands for each set, so that it is told from what is undefined."""
    problems = scope.problems
    sections = [(section, file) for file in files.found for section in _NAMES]
    found = [(section, entry) for section, file in sections for entry in declared(section, file.root, problems)]
    names = unique([entry for _, entry in found], problems)
    first = {
        section: [entry for where, entry in found if where == section and names[entry.name] is entry]
        for section in _NAMES
    }
    scope.sets = {entry.name: placeholder(entry) for entry in first["sets"]}
    define(first["define"], scope)
    return names


def _documents(files: Files, main: File, scope: Scope) -> dict[str, IncludedDocument]:
    """By the file's name; a file whose structure could not be read is missing."""
    found: dict[str, IncludedDocument] = {}
    for file in files.found:
        document = (PolicyDocument if file is main else IncludedDocument).read(file.root, scope)
        if document is not None:
            found[file.name] = document
    return found


def _sets(names: dict[str, Declared], files: Files, scope: Scope, sources: Sources, folder: Path) -> None:
    reader = SetReader(scope, sources, folder)
    by_name = {file.name: file for file in files.found}
    placeholders = scope.sets
    scope.sets = dict(placeholders) | {
        name: reader.read(names[name], by_name[names[name].key.at.file]) for name in placeholders
    }


def _cases(documents: dict[str, IncludedDocument], reader: RuleReader, scope: Scope) -> Iterator[TestCase]:
    for document in documents.values():
        for entry in document.tests:
            case = settings.case(entry, reader.ids, scope)
            if case is not None:
                yield case

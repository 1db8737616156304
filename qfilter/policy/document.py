"""The structure of a policy file. Checking and the JSON Schema (`qfilter schema`) both come from these models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, StrictStr, ValidationInfo, WrapValidator

from qfilter.model.hook import Hook
from qfilter.model.malformed import ALLOWABLE
from qfilter.model.policy import Backend, Exempt, SetType, Target
from qfilter.model.rule import Scope as RuleScope
from qfilter.model.verdict import Kind
from qfilter.policy.binding import LEFT_OUT, Entries, Flag, Items, Leaf, Many, Raw, Text
from qfilter.policy.node import Mapping, Node
from qfilter.policy.scope import Scope

Paths = Annotated[Node, Raw("paths")]
Allowable = Annotated[str, Leaf(one_of=ALLOWABLE, instead=LEFT_OUT)]
Outcome = Annotated[str, Leaf(one_of=(Kind.ACCEPT, Kind.DROP))]
Default = Annotated[Node | None, Raw("default")]
RuleId = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), Leaf()]


class SetDocument(Entries):
    """One entry of `sets:`."""

    type: Annotated[SetType, Leaf()]
    elements: Annotated[Node | None, Raw("elements")] = None
    file: Annotated[Node | None, Raw("path")] = None
    dynamic: Flag = False
    timeout: Annotated[Node | None, Raw("duration")] = None
    size: Annotated[StrictInt, Field(ge=1, le=16_777_216), Leaf()] = 65_536


class QueueDocument(Entries):
    """`queue:`."""

    number: Annotated[Node | None, Raw("queue-number")] = None
    target: Annotated[Target, Leaf()] = Target.NFQUEUE
    backend: Annotated[Backend, Leaf()] = Backend.AUTO
    length: Annotated[StrictInt, Field(ge=1, le=65_536), Leaf()] = 1024
    copy_range: Annotated[StrictInt, Field(ge=40, le=65_531), Leaf()] | None = None
    socket_buffer: Annotated[Node | None, Raw("size")] = None
    cpu_fanout: Flag = False
    deadline: Annotated[Node | None, Raw("duration")] = None
    exempt: Annotated[tuple[Annotated[Exempt, Leaf(instead=LEFT_OUT)], ...], Many()] = ()
    mark_mask: Annotated[StrictInt, Field(ge=1, le=0xFFFF_FFFF), Leaf()] = 0xF000_0000


class TestDocument(Entries):
    """One entry of `tests:`."""

    __test__ = False  # pytest collects classes called Test*

    packet: Annotated[Node, Raw("packet")]
    expect: Annotated[Node, Raw("verdict")]
    by: Text | None = None
    after: Annotated[tuple[Annotated[Node, Raw("packet")], ...], Items()] = ()
    times: Annotated[StrictInt, Field(ge=1, le=10_000), Leaf()] = 1


class IncludeDocument(Entries):
    """An entry of `rules:` that stands for the rules of other files."""

    include: Paths


class RuleDocument(Entries):
    """An entry of `rules:`."""

    id: RuleId | None = None
    comment: Text | None = None
    hook: Annotated[tuple[Annotated[Hook, Leaf(instead=LEFT_OUT)], ...], Many()] = ()
    match: Annotated[Node | None, Raw("match")] = None
    limit: Annotated[Node | None, Raw("limit")] = None
    log: Annotated[Node | None, Raw("log")] = None
    count: Annotated[Node | None, Raw("count")] = None
    mark: Annotated[Node | None, Raw("mark")] = None
    add: Annotated[Node | None, Raw("add")] = None
    delete: Annotated[Node | None, Raw("delete")] = None
    capture: Annotated[Node | None, Raw("capture")] = None
    verdict: Annotated[Node | None, Raw("verdict")] = None
    scope: Annotated[RuleScope, Leaf()] = RuleScope.PACKET
    rules: Rules | None = None


def _entry(node: Node, _: Callable[[Any], Any], info: ValidationInfo) -> RuleDocument | IncludeDocument | None:
    """An entry is told by its key `include`, so that its mistakes are reported once and as what it was meant to be."""
    scope = info.context
    assert isinstance(scope, Scope)
    if isinstance(node, Mapping) and node.get("include") is not None:
        return IncludeDocument.read(node, scope)
    return RuleDocument.read(node, scope)


Entry = Annotated[RuleDocument | IncludeDocument, WrapValidator(_entry)]
Rules = Annotated[tuple[Entry, ...], Items()]


class DefaultsDocument(Entries):
    """`default:`, by hook."""

    prerouting: Default = None
    input: Default = None
    forward: Default = None
    output: Default = None
    postrouting: Default = None


class FailureDocument(Entries):
    """`on_failure:`, by cause."""

    no_listener: Outcome = Kind.DROP
    queue_full: Outcome = Kind.DROP
    malformed: Outcome = Kind.DROP
    truncated: Outcome = Kind.DROP
    fragment: Outcome = Kind.DROP
    error: Outcome = Kind.DROP
    overload: Outcome = Kind.DROP
    deadline: Outcome = Kind.DROP


Version = Annotated[Literal[1], Leaf("version", instead=1)]


class TestsDocument(Entries):
    """A file of tests alone."""

    __test__ = False

    version: Version = 1
    tests: Annotated[tuple[TestDocument, ...], Items()]


class IncludedDocument(Entries):
    """A file that a policy includes."""

    version: Version = 1
    include: Paths | None = None
    define: Annotated[Node | None, Raw("define")] = None
    sets: Annotated[Node | None, Raw("sets")] = None
    rules: Rules = ()
    tests: Annotated[tuple[TestDocument, ...], Items()] = ()


class PolicyDocument(IncludedDocument):
    """The policy itself."""

    version: Version
    default: DefaultsDocument
    on_failure: FailureDocument | None = None
    allow: Annotated[tuple[Allowable, ...], Many()] = ()
    queue: QueueDocument | None = None

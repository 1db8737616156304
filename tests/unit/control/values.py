"""One of each message, for the tests of what carries them."""

from __future__ import annotations

from qfilter.control.messages import (
    Answer,
    Change,
    Changed,
    ChangeSet,
    Elements,
    ElementState,
    GetElements,
    GetSets,
    GetStats,
    GetStatus,
    Refused,
    Reload,
    Reloaded,
    Request,
    Sets,
    SetState,
    Stats,
    Status,
)
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import Diagnostic, Position
from qfilter.policy.load import loads

TEXT = """version: 1
default: {input: drop}
sets:
  bad: {type: address, dynamic: true, timeout: 10m, size: 3, elements: [192.0.2.0/24]}
  lan: {type: address, elements: [192.0.2.1]}
rules:
  - {id: bad, match: {saddr: $bad}, count: hits, verdict: reject tcp-reset}
  - {id: lan, match: {saddr: $lan}, verdict: accept}
"""

MISTAKE = Diagnostic(
    kind="version", at=Position("p.yaml", 1, 10), message="2: expected 1", included_from=(Position("q.yaml", 2, 3),)
)
QUEUE: dict[str, object] = {"queue": 0, "family": None, "errors": {"No such file or directory": 3}}

REQUESTS: tuple[Request, ...] = (
    Reload(),
    Reload(path="/etc/qfilter/ü\n.yaml"),
    GetStatus(),
    GetStats(),
    GetSets(),
    GetElements(set="bad"),
    ChangeSet(set="bad", change=Change.ADD, elements=("192.0.2.1", "2001:db8::1"), timeout=0.5),
    ChangeSet(set="bad", change=Change.FLUSH),
)

ANSWERS: tuple[Answer, ...] = (
    Refused(problem="no"),
    Refused(problem="", diagnostics=(MISTAKE,)),
    Reloaded(file="p.yaml", digest="ab", changes=("rule bad added",), warnings=(MISTAKE,)),
    Status(
        process=7,
        engine="reference",
        digest="ab",
        started="t",
        since="t",
        in_force={"x": [1]},
        queues=(QUEUE,),
        events_lost=3,
        events_error="no room",
    ),
    Stats(report=ReferenceEngine(loads(TEXT, "p.yaml")).report(), queues=(QUEUE,), events_lost=0, events_error=""),
    Sets(sets=(SetState(name="lan", type="address", dynamic=False, file=1, added=0, size=None),)),
    Elements(elements=(ElementState("192.0.2.1", True, 1.5), ElementState("a\\xff", False)), more=True),
    Changed(count=2, refused=1, absent=("192.0.2.9",)),
)

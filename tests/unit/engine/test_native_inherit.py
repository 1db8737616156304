"""Native engines one after another: the counts of all, the memory of two."""

from __future__ import annotations

import weakref

from qfilter.compiler import encode, portable_plan
from qfilter.engine.build import build
from qfilter.engine.native import NativeEngine
from qfilter.model.policy import Policy
from qfilter.policy.load import loads

POLICY = loads(
    "version: 1\ndefault: {input: drop}\nrules: [{id: web, match: {dport: 80}, count: n, verdict: accept}]\n"
)
WEB, OTHER = (build({"hook": "input", "saddr": "192.0.2.1", "protocol": "tcp", "dport": port}) for port in (80, 81))


def engine(policy: Policy = POLICY) -> NativeEngine:
    return NativeEngine(policy, encode(portable_plan(policy)))


def counts(asked: NativeEngine) -> tuple[int, int, int]:
    report = asked.report()
    return report.rules[0].tally.packets, report.defaults[WEB.hook].tally.packets, report.counters["n"].packets


def test_counts_add_up_and_only_the_former_engine_stays() -> None:
    new = engine()
    gone: list[weakref.ref[NativeEngine]] = []
    for number in range(1, 6):
        new.decide(WEB)
        old, new = new, engine()
        gone.append(weakref.ref(old))
        new.inherit(old, {})
        old.decide(OTHER)  # it may judge until the new one takes its place
        assert counts(new) == (number, number, number)
        assert counts(old) == (number, number, number)
        del old
        assert [each() is None for each in gone] == [True] * (number - 1) + [False]


def test_a_fresh_one_has_counted_nothing() -> None:
    old, new = engine(), engine()
    old.decide(WEB)
    new.inherit(old, {})
    assert (counts(new), counts(new.fresh())) == ((1, 0, 1), (0, 0, 0))


def test_a_set_of_another_type_begins_empty() -> None:
    """Also where both hold numbers: a port that somebody has chosen is no TTL."""
    head = "version: 1\ndefault: {input: drop}\n"
    text = f"{head}sets: {{s: {{type: port, dynamic: true}}}}\nrules: [{{match: {{dport: $s}}, log: true}}]\n"
    old = engine(loads(text))
    port, number = (
        engine(loads(changed)) for changed in (text, text.replace("port", "number").replace("dnumber", "ttl"))
    )
    assert old.add("s", 64, None)
    for new in (port, number):
        new.inherit(old, {})
    assert (port.elements("s"), number.elements("s")) == ([(64, None)], [])

"""The public face: everything that `qfilter` exports, as a caller would use it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import pytest

import qfilter
from qfilter import api
from tests.unit.queues.capture_files import SYN

TEXT = """version: 1
default: {input: drop}
queue: {number: 4}
rules:
  - {id: evil, match: {python: test.evil}, log: true, verdict: reject}
  - {id: ssh, match: {protocol: tcp, dport: 22}, limit: {rate: 1/minute, burst: 1}, verdict: accept}
tests:
  - {packet: {hook: input, protocol: tcp, dport: 22}, expect: accept, by: ssh}
"""


@qfilter.predicate("test.evil", needs=("payload",))
def is_evil(packet: qfilter.Packet) -> bool:
    payload = packet.fields["payload"]
    assert isinstance(payload, bytes)
    return b"evil" in payload


@pytest.fixture
def policy() -> qfilter.Policy:
    return qfilter.loads(TEXT, "api.yaml")


def test_every_exported_name_is_there() -> None:
    assert sorted(qfilter.__all__) == qfilter.__all__ == dir(qfilter)
    for name in qfilter.__all__:
        assert getattr(qfilter, name).__doc__, name


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="module 'qfilter' has no attribute 'lode'"):
        qfilter.lode  # noqa: B018


def test_the_types_that_its_functions_take_and_return_are_exported() -> None:
    faces = (qfilter.load, qfilter.loads, qfilter.serve, *vars(qfilter.Policy).values())
    functions = [face for face in faces if isinstance(face, FunctionType) and not face.__name__.startswith("_")]
    named = {
        word for function in functions for hint in function.__annotations__.values() for word in _CLASS.findall(hint)
    }
    assert {"Outputs", "Explanation", "TestOutcome", "Report"} <= named
    assert named <= {*qfilter.__all__, "Sequence", "PathLike", "None"}


_CLASS = re.compile(r"\b[A-Z]\w+")
"""Annotations are text here, and classes begin with a capital."""


def test_importing_it_waits_for_nothing() -> None:
    code = "import qfilter, sys; print([name for name in ('scapy', 'pydantic', 'yaml', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_verdict_and_why(policy: qfilter.Policy) -> None:
    packet = qfilter.Packet.from_bytes(SYN, hook="input", iifname="eth0")
    first, second = policy.evaluate(packet), policy.evaluate(packet)
    assert (first.decision, first.reason, first.rule) == (
        qfilter.Decision(qfilter.Kind.ACCEPT),
        qfilter.Reason.RULE,
        "ssh",
    )
    assert first.at == qfilter.Position("api.yaml", 6, 5)
    assert (second.decision.kind, second.reason) == (qfilter.Kind.DROP, qfilter.Reason.DEFAULT)
    report = policy.report()
    assert isinstance(report, qfilter.Report)
    assert (report.total.packets, report.total.bytes) == (2, 80)
    assert [(row.rule, row.tally.packets) for row in report.rules] == [("evil", 0), ("ssh", 1)]


def test_a_predicate_of_the_callers_own(policy: qfilter.Policy) -> None:
    verdict = policy.evaluate(
        qfilter.Packet.from_bytes(SYN[:2] + bytes([0, 44]) + SYN[4:] + b"evil", hook=qfilter.Hook.INPUT)
    )
    assert (verdict.rule, verdict.decision.reject) == ("evil", qfilter.RejectWith.PORT_UNREACHABLE)


def test_why(policy: qfilter.Policy) -> None:
    explained = policy.explain(qfilter.Packet.from_bytes(SYN, hook="input"))
    assert [(step.rule.id, step.truth) for step in explained.steps] == [("evil", False), ("ssh", True)]
    assert isinstance(explained, qfilter.Explanation)
    assert isinstance(explained.verdict, qfilter.Verdict)


def test_its_own_tests(policy: qfilter.Policy) -> None:
    outcome = policy.test()
    assert isinstance(outcome, qfilter.TestOutcome)
    assert [result.passed for result in outcome.results] == [True]
    assert [rule.id for rule in outcome.untested] == ["evil"]


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    assert qfilter.load(path).model.path == str(path)


def test_what_does_not_load() -> None:
    with pytest.raises(qfilter.PolicyError) as caught:
        qfilter.loads("version: 1\ndefault: {input: dorp}\n")
    (mistake,) = caught.value.diagnostics
    assert isinstance(mistake, qfilter.Diagnostic)
    assert (mistake.at, mistake.suggestion) == (qfilter.Position("<policy>", 2, 18), "drop")
    assert isinstance(caught.value, qfilter.QFilterError)


def test_what_is_no_packet() -> None:
    with pytest.raises(qfilter.PacketError, match="hook 'inptu': expected one of"):
        qfilter.Packet.from_bytes(SYN, hook="inptu")


@pytest.mark.parametrize("queues", [[], [0, 2], [-1], [65_536], [1, 1]])
def test_queues_that_cannot_be(policy: qfilter.Policy, queues: list[int]) -> None:
    with pytest.raises(ValueError, match="expected adjacent numbers of 0 to 65535"):
        qfilter.serve(policy, queues=queues)


def test_queues_override_the_policys(policy: qfilter.Policy) -> None:
    model = api._on_queues(policy.model, [7, 6])
    assert (model.queue.first, model.queue.last) == (6, 7)


def test_the_example_of_the_docstring_is_typed_python() -> None:
    compile(str(qfilter.__doc__).partition("\n\n")[2], "docstring", "exec")


def test_connections_of_packets_from_bytes() -> None:
    rule = "{match: {ct.state: new, ct.mark: 7}, verdict: accept}"
    policy = qfilter.loads(f"version: 1\ndefault: {{input: drop}}\nrules: [{rule}]\n")
    packet = qfilter.Packet.from_bytes(SYN, hook="input", ct_state=8, ct_mark=7)
    assert policy.evaluate(packet).reason == "rule"
    assert policy.evaluate(replace(packet, ct_state=None)).reason == "default"
    with pytest.raises(qfilter.PacketError, match="ct_state 3: expected 1 invalid, 2 established, 4 related or 8 new"):
        qfilter.Packet.from_bytes(SYN, hook="input", ct_state=3)
    with pytest.raises(qfilter.PacketError, match="ct_mark -1: expected 0 to 4294967295"):
        qfilter.Packet.from_bytes(SYN, hook="input", ct_mark=-1)

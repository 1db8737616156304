"""Whatever the bytes and whatever the policy: a verdict, one of those that the policy can give, always the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.explain import explain
from qfilter.engine.tallies import all_rules
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Decision, Reason, Verdict
from tests.fuzz.generated import engine, examples, packets, policies


def possible(policy: Policy, verdict: Verdict, packet: Packet) -> bool:
    """Whether the policy says somewhere that this may become of a packet, for this reason."""
    by_id = {rule.id: rule for rule in all_rules(policy.rules)}
    if verdict.reason is Reason.RULE:
        rule = by_id[verdict.rule or ""]
        return rule.verdict == verdict.decision and rule.at == verdict.at and verdict.detail in ("", "flow")
    if verdict.reason is Reason.DEFAULT:
        default = policy.defaults[packet.hook]
        return (verdict.rule, verdict.decision, verdict.at) == (None, default.decision, default.at)
    known = verdict.rule is None or by_id[verdict.rule].at == verdict.at
    return known and verdict.decision == Decision(policy.on_failure[verdict.reason]) and bool(verdict.detail)


@examples(80)
@given(policies(), st.lists(packets(), min_size=1, max_size=4))
def test_every_packet_gets_a_verdict_that_the_policy_has(policy: Policy, sent: list[Packet]) -> None:
    judged = engine(policy)
    for packet in sent:
        verdict = judged.decide(packet)
        assert possible(policy, verdict, packet)
        assert "engine" not in verdict.detail
    assert judged.report().total.packets == len(sent)


@examples(60)
@given(policies(scapy=False), packets())
def test_without_scapy_nothing_is_an_error(policy: Policy, packet: Packet) -> None:
    verdict = engine(policy).decide(packet)
    assert verdict.reason is not Reason.ERROR, verdict.detail


@examples(40)
@given(policies(), st.lists(packets(), min_size=1, max_size=3))
def test_two_runs_say_the_same(policy: Policy, sent: list[Packet]) -> None:
    first, second = engine(policy), engine(policy)
    assert repr([first.decide(packet) for packet in sent]) == repr([second.decide(packet) for packet in sent])
    assert repr(first.report()) == repr(second.report())


@examples(40)
@given(policies(), packets())
def test_explain_says_what_decide_does(policy: Policy, packet: Packet) -> None:
    explanation = explain(engine(policy), packet)
    assert explanation.verdict == engine(policy).decide(packet)
    shown = repr([part for step in explanation.steps for part in step.failed]) + repr(explanation.fields)
    assert shown.isprintable()
    if explanation.verdict.reason is Reason.RULE:
        assert explanation.steps[-1].rule.id == explanation.verdict.rule

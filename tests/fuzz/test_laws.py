"""What must hold for every condition and every packet: Kleene's laws, absence, order, and what changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from qfilter.engine.conditions import View
from qfilter.engine.matching import Truth
from qfilter.engine.value import Absent, Unknown
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.rule import AllOf, AnyOf, Condition, NotOf, Rule
from qfilter.policy.covering import Deciding
from qfilter.policy.load import loads
from tests.fuzz.generated import (
    HEAD,
    Written,
    condition_rule,
    engine,
    examples,
    matches,
    packets,
    policies,
    policy_of,
    sound_bytes,
    values,
)


def view(packet: Packet) -> View:
    return engine(policy_of([])).view(packet)


def condition(match: Written) -> Condition:
    rule = condition_rule(match)
    assume(rule is not None)
    assert rule is not None
    return rule.match


def plain(truth: Truth) -> object:
    """A truth without the cause: of several unknowns the first is the cause, and laws change what comes first."""
    return None if isinstance(truth, Unknown) else truth


conditions = matches().map(condition_rule).filter(bool).map(lambda rule: rule.match if rule else AllOf(()))


@examples(80)
@given(conditions, conditions, packets())
def test_kleene(one: Condition, other: Condition, packet: Packet) -> None:
    seen = view(packet)

    def holds(what: Condition) -> object:
        return plain(seen.holds(what))

    assert seen.holds(NotOf(NotOf(one))) == seen.holds(one)
    assert seen.holds(NotOf(AllOf((one, other)))) == seen.holds(AnyOf((NotOf(one), NotOf(other))))
    assert seen.holds(NotOf(AnyOf((one, other)))) == seen.holds(AllOf((NotOf(one), NotOf(other))))
    assert holds(AllOf((one, other))) == holds(AllOf((other, one)))
    assert holds(AnyOf((one, other))) == holds(AnyOf((other, one)))
    assert seen.holds(AllOf((one, one))) == seen.holds(AnyOf((one, one))) == seen.holds(one)
    assert seen.holds(AllOf((AllOf(()), one))) == seen.holds(AnyOf((AnyOf(()), one))) == seen.holds(one)
    assert holds(AnyOf((one, AllOf((one, other))))) == holds(one)
    assert holds(AllOf((one, AnyOf((one, other))))) == holds(one)
    truth = holds(one)
    assert holds(NotOf(one)) is (None if truth is None else not truth)
    assert holds(AllOf((one, NotOf(one)))) in (False, None)


@examples(150)
@given(st.data(), packets(sound_bytes()))
def test_a_value_and_its_negation_are_both_false_when_absent_and_otherwise_opposite(
    data: st.DataObject, packet: Packet
) -> None:
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    value = data.draw(values(name))
    seen = view(packet)
    assume(seen.decoded.malformed is None)
    wanted, unwanted = (seen.holds(condition({name: form})) for form in (value, {"not": value}))
    found = seen.read(name)
    if isinstance(found, Unknown):
        assert wanted == unwanted == found
    elif isinstance(found, Absent):
        assert wanted is unwanted is False
    else:
        assert unwanted == (wanted if isinstance(wanted, Unknown) else not wanted)


def nested(rules: tuple[Rule, ...], at: int) -> tuple[Rule, ...]:
    """The same rules, those from one on inside a rule that lets everything through to them."""
    around = Rule(id="around", at=rules[0].at, rules=rules[at:])
    return (*rules[:at], around)


@examples(50)
@given(policies(), st.lists(packets(), min_size=1, max_size=3), st.data())
def test_rules_inside_a_rule_that_matches_everything_mean_what_they_mean_outside(
    policy: Policy, sent: list[Packet], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(policy.rules)))
    flat, deep = engine(policy), engine(replace(policy, rules=nested(policy.rules, at)))
    for packet in sent:
        assert flat.decide(packet) == deep.decide(packet)


@examples(50)
@given(policies(), st.lists(packets(), min_size=1, max_size=3), st.data())
def test_a_rule_that_cannot_match_changes_nothing(policy: Policy, sent: list[Packet], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(policy.rules)))
    never = Rule(id="never", at=policy.rules[0].at, match=AnyOf(()), verdict=policy.defaults[sent[0].hook].decision)
    more = replace(policy, rules=(*policy.rules[:at], never, *policy.rules[at:]))
    without, with_it = engine(policy), engine(more)
    for packet in sent:
        assert without.decide(packet) == with_it.decide(packet)


@examples(50)
@given(st.data(), packets())
def test_the_order_of_a_list_does_not_matter(data: st.DataObject, packet: Packet) -> None:
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    some = data.draw(st.lists(values(name), min_size=2, max_size=4))
    other = data.draw(st.permutations(some))
    seen = view(packet)
    assert plain(seen.holds(condition({name: some}))) == plain(seen.holds(condition({name: other})))


@examples(50)
@given(st.data())
def test_the_order_of_elements_makes_the_same_set(data: st.DataObject) -> None:
    elements = data.draw(
        st.lists(st.sampled_from(["192.0.2.0/25", "192.0.2.7", "192.0.2.100-192.0.2.200", "2001:db8::1", "::/3"]))
    )
    other = data.draw(st.permutations(elements))

    def made(order: list[str]) -> object:
        listed = ", ".join(f"'{element}'" for element in order)
        sets = f"sets:\n  s: {{type: address, elements: [{listed}]}}\n"
        return loads(HEAD + sets + "rules:\n  - {match: {saddr: $s}, log: true}\n").sets["s"].elements

    assert made(elements) == made(other)


@examples(150)
@given(st.data(), st.lists(packets(), min_size=1, max_size=3))
def test_a_rule_that_is_called_dead_never_has_a_say(data: st.DataObject, sent: list[Packet]) -> None:
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    value, another = data.draw(values(name)), data.draw(values(name))
    wide = condition_rule(data.draw(st.sampled_from([{name: value}, {name: [value, another]}, {name: {"not": value}}])))
    narrow = condition_rule({**data.draw(matches()), name: data.draw(st.sampled_from([value, another]))})
    assume(wide is not None and narrow is not None)
    assert wide is not None
    assert narrow is not None
    deciding = Deciding()
    deciding.add(wide)
    assume(deciding.covering(narrow, tuple(Hook)) is not None)
    empty = policy_of([])
    alone = engine(replace(empty, rules=(wide,)))
    both = engine(replace(empty, rules=(wide, replace(narrow, id="dead"))))
    for packet in sent:
        assert alone.decide(packet) == both.decide(packet)

"""Words of other firewalls: what is said to those who know them better than qfilter's."""

from __future__ import annotations

import pytest

from qfilter.fields import FIELDS
from qfilter.model.verdict import Kind
from qfilter.policy import foreign
from qfilter.policy.actions import RULE_KEYS, parse_verdict
from qfilter.policy.conditions import parse_match
from qfilter.policy.document import RuleDocument
from qfilter.policy.reader import read
from tests.unit.policy.reading import a_scope, node_of, said


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("src source sip src_ip src-ip SRC --source s", "saddr"),
        ("dst dest destination dip dst.ip dst-ip daddr d", "daddr"),
        ("src-port src_port source-port spt spotr sport", "sport"),
        ("dst-port dst_port dest-port dports port Destination-Port dprot", "dport"),
        ("proto ip-proto protcol p Protocol", "protocol"),
        ("in iif i interface in-interface iifnam", "iifname"),
        ("out oif o out-interface", "oifname"),
        ("mac mac-source", "hwaddr"),
        ("flags tcp-flags tcp_flags TCP.Flags", "tcp.flags"),
        ("hoplimit hop-limit", "ttl"),
        ("state ct ctstate ct-state CT_STATE conntrack --ctstate", "ct.state"),
        ("connmark ct-mark ctmark", "ct.mark"),
        ("zzzzzz", None),
    ],
)
def test_fields(words: str, field: str | None) -> None:
    assert {word: foreign.field_meant(word) for word in words.split()} == dict.fromkeys(words.split(), field)


def test_what_is_suggested_exists() -> None:
    assert set(foreign._FIELDS) <= set(FIELDS)
    assert not set(foreign._FIELD_OF) & set(FIELDS)
    assert not set(foreign._VERDICT_OF) & set(Kind)
    assert len(foreign._FIELD_OF) == sum(map(len, foreign._FIELDS.values()))


@pytest.mark.parametrize(
    ("words", "kind"),
    [("ACCEPT allow Pass permit acept", "accept"), ("DROP deny block discard", "drop"), ("REJECT rejcet", "reject")],
)
def test_verdicts(words: str, kind: str) -> None:
    for word in words.split():
        scope = a_scope()
        assert parse_verdict(node_of(word), scope) is None
        assert [one.suggestion for one in scope.problems.errors] == [kind]


@pytest.mark.parametrize("key", sorted(set(RULE_KEYS) - set(FIELDS)))
def test_a_key_of_the_rule_inside_its_match(key: str) -> None:
    scope = a_scope()
    assert parse_match(node_of(f"{{dport: 22, {key}: x}}"), scope) is None
    assert said(scope) == [
        f"1:13 unknown-field: {key} is a key of the rule, not a field: indent it less, as `match` itself"
    ]


def test_a_mark_to_set_inside_the_match() -> None:
    scope = a_scope()
    assert parse_match(node_of("{mark: {set: 1, not: 2}}"), scope) is None
    assert said(scope) == [
        "1:9 unknown-key: mark is set by the rule, not by its match: indent it less, as `match` itself"
    ]


def test_the_keys_of_a_rule_are_those_of_its_document() -> None:
    assert set(RULE_KEYS) == set(RuleDocument.model_fields) - {"node"}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("oifname: !wan", ["1:10 tag: tag '!wan': '!' begins a YAML tag: not is written {not: wan}"]),
        ("oifname: !$wan", ["1:10 tag: tag '!$wan': '!' begins a YAML tag: not is written {not: $wan}"]),
        ("oifname: != wan", ["1:10 tag: tag '!=': '!' begins a YAML tag: not is written {not: value}"]),
        ("oifname: ! wan", ["1:10 tag: tag '!': '!' begins a YAML tag: not is written {not: value}"]),
        (
            "{oifname: !wan}",
            ["1:11 yaml-syntax: '!' begins a YAML tag: not is written {not: value}; quote it to mean the text"],
        ),
        (
            "oifname: '!= wan'",
            ["1:10 bad-value: oifname '!= wan': not is written {not: wan}; {equals: ...} takes it literally"],
        ),
        ("oifname: {equals: '!wan'}", []),
    ],
)
def test_an_exclamation_mark(text: str, messages: list[str]) -> None:
    scope = a_scope()
    node = read(text.encode(), "p.yaml", scope.problems)
    if node is not None:
        parse_match(node, scope)
    assert said(scope) == messages

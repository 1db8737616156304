"""`match:` mappings to conditions, and what is said about those that are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfilter import predicates
from qfilter.errors import Position
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.match import AnyMatch, NotMatch, Ranges, Text, TextTest
from qfilter.model.packet import Packet
from qfilter.model.rule import (
    AllOf,
    AnyOf,
    Base,
    BytesTest,
    Condition,
    FieldTest,
    NotOf,
    Predicate,
    PythonTest,
    ScapyTest,
)
from qfilter.policy.actions import ACTIONS, parse_actions, parse_limit, parse_verdict
from qfilter.policy.conditions import parse_match
from qfilter.policy.kinds import KINDS
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from tests.unit.policy.reading import SETS, a_scope, node_of, said


@predicates.predicate("test.conditions", needs=("payload",))
def odd(packet: Packet) -> bool:
    return len(packet.data) % 2 == 1


ODD = Predicate("test.conditions", ("payload",), odd)


def at(column: int, line: int = 1) -> Position:
    return Position("p.yaml", line, column)


def number(field: str, value: int, column: int, depth: int = 0) -> FieldTest:
    return FieldTest(field, Ranges(((value, value),)), at(column), depth)


BYTES = BytesTest(Base.NETWORK, 0, b"\x45", b"\xff", at(2))


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("{}", []),
        ("{protocol: tcp, dport: 22}", [number("protocol", 6, 2), number("dport", 22, 17)]),
        ("{dport: 22, protocol: tcp}", [number("dport", 22, 2), number("protocol", 6, 13)]),
        ("{hook: input}", [number("hook", 1, 2)]),
        ("{inner.dport: 22}", [number("dport", 22, 2, depth=1)]),
        ("{inner.inner.inner.inner.ttl: 1}", [number("ttl", 1, 2, depth=4)]),
        ("{any: [{sport: 1}, {dport: 2}]}", [AnyOf((number("sport", 1, 9), number("dport", 2, 21)))]),
        ("{any: [{sport: 1, dport: 2}]}", [AnyOf((AllOf((number("sport", 1, 9), number("dport", 2, 19))),))]),
        ("{all: [{sport: 1}, {dport: 2}]}", [AllOf((number("sport", 1, 9), number("dport", 2, 21)))]),
        ("{all: {sport: 1, dport: 2}}", [AllOf((number("sport", 1, 8), number("dport", 2, 18)))]),
        ("{not: {sport: 1}}", [NotOf(number("sport", 1, 8))]),
        ("{not: {sport: 1, dport: 2}}", [NotOf(AllOf((number("sport", 1, 8), number("dport", 2, 18))))]),
        ("{not: [{sport: 1}, {dport: 2}]}", [NotOf(AnyOf((number("sport", 1, 9), number("dport", 2, 21))))]),
        ("{not: {any: [{sport: 1}]}}", [NotOf(AnyOf((number("sport", 1, 15),)))]),
        ("{python: test.conditions}", [PythonTest(ODD, at(2))]),
        ("{python: [test.conditions]}", [AnyOf((PythonTest(ODD, at(2)),))]),
        ("{bytes: {base: network, offset: 0, value: 45}}", [BYTES]),
        ("{bytes: {base: network, offset: 0, value: '45', mask: ff}}", [BYTES]),
        ("{bytes: [{base: network, offset: 0, value: 0x45}]}", [AnyOf((BYTES,))]),
        (
            "{bytes: {not: {base: payload, offset: 2, value: 'de ad', mask: 'ff:ff'}}}",
            [BytesTest(Base.PAYLOAD, 2, b"\xde\xad", b"\xff\xff", at(2), negated=True)],
        ),
        (
            "{bytes: {not: [{base: network, offset: 0, value: 45}]}}",
            [AllOf((BytesTest(Base.NETWORK, 0, b"\x45", b"\xff", at(2), negated=True),))],
        ),
        ("{scapy.TCP.sport: 22}", [ScapyTest("TCP", "sport", Ranges(((22, 22),)), at(2))]),
        ("{scapy.IP.proto: [tcp, udp]}", [ScapyTest("IP", "proto", Ranges(((6, 6), (17, 17))), at(2))]),
        ("{scapy.TCP.flags: S}", [ScapyTest("TCP", "flags", Ranges(((2, 2),)), at(2))]),
        ("{scapy.DNS.opcode: {not: QUERY}}", [ScapyTest("DNS", "opcode", NotMatch(Ranges(((0, 0),))), at(2))]),
        (
            "{scapy.DNSQR.qname: {regex: '^[^.]{50,}'}}",
            [ScapyTest("DNSQR", "qname", Text(TextTest.REGEX, b"^[^.]{50,}"), at(2))],
        ),
        (
            "{scapy.DHCP.options: message-type=1}",
            [ScapyTest("DHCP", "options", Text(TextTest.EQUALS, b"message-type=1"), at(2))],
        ),
        (
            "{scapy.GTP_U_Header.teid: {ge: 7}}",
            [ScapyTest("GTP_U_Header", "teid", Ranges(((7, 0xFFFFFFFF),)), at(2))],
        ),
        (
            "{scapy.TLSClientHello.ciphers: 47}",
            [ScapyTest("TLSClientHello", "ciphers", Ranges(((47, 47),)), at(2))],
        ),
        (
            "{scapy.TLSClientHello.ciphers: '47'}",
            [
                ScapyTest(
                    "TLSClientHello",
                    "ciphers",
                    AnyMatch((Ranges(((47, 47),)), Text(TextTest.EQUALS, b"47"))),
                    at(2),
                )
            ],
        ),
    ],
)
def test_conditions(text: str, conditions: list[Condition]) -> None:
    scope = a_scope()
    assert (parse_match(node_of(text), scope), said(scope)) == (AllOf(tuple(conditions)), [])


def test_a_reference_stands_for_a_whole_match() -> None:
    scope = a_scope()
    web = AllOf(
        (
            FieldTest("protocol", Ranges(((6, 6),)), at(7, 3)),
            FieldTest("dport", Ranges(((80, 80), (443, 443))), at(22, 3)),
        )
    )
    assert parse_match(node_of("$web"), scope) == web
    assert parse_match(node_of("{any: [$web]}"), scope) == AllOf((AnyOf((web,)),))
    assert said(scope) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "1:1 wrong-type: a list: expected a mapping of fields to values"),
        ("22", "1:1 wrong-type: the number '22': expected a mapping of fields to values"),
        ("$hosts", "1:1 wrong-type: set 'hosts': expected a mapping of fields"),
        (
            "{dprot: 22}",
            "1:2 unknown-field: unknown field 'dprot': expected a field (`qfilter fields` lists them) (dport)",
        ),
        (
            "{src: 192.0.2.1}",
            "1:2 unknown-field: unknown field 'src': expected a field (`qfilter fields` lists them) (saddr)",
        ),
        ("{ANY: []}", "1:2 unknown-field: unknown field 'ANY': expected a field (`qfilter fields` lists them) (any)"),
        (
            "{inner.dst: 192.0.2.1}",
            "1:2 unknown-field: unknown field 'inner.dst': expected a field (`qfilter fields` lists them) (inner",
        ),
        (
            "{inner.iifname: lo}",
            "1:2 unknown-field: 'inner.iifname': iifname is of the packet as a whole, not of one inside a tunnel: ",
        ),
        ("{inner.inner.inner.inner.inner.ttl: 1}", "1:2 out-of-range: 5 times 'inner.': expected at most 4"),
        ("{any: {sport: 1}}", "1:7 wrong-type: any: a mapping: expected a list; the keys of one mapping must all hold"),
        ("{any: []}", "1:7 bad-value: any: the list is empty: expected a mapping of fields to values"),
        ("{not: 5}", "1:7 wrong-type: the number '5': expected a mapping of fields to values"),
        ("{python: test.condition}", "1:10 unknown-name: predicate 'test.condition': expected module:function or a "),
        (
            "{python: [5]}",
            "1:11 wrong-type: the number '5': expected module:function or the name of a predicate; quotes ",
        ),
        ("{python: []}", "1:10 bad-value: the list is empty: expected a value"),
        ("{python: 'os:'}", "1:10 plugin: python 'os:': expected module:function"),
        ("{bytes: 5}", "1:9 wrong-type: the number '5': expected a mapping with base, offset and value"),
        (
            "{bytes: {base: network}}",
            "1:9 missing-key: bytes without offset and value: expected base, offset and value",
        ),
        (
            "{bytes: {base: netwrok, offset: 0, value: 00}}",
            "1:16 unknown-name: base 'netwrok': expected one of network, transport, payload (network)",
        ),
        ("{bytes: {base: network, offset: -1, value: ff}}", "1:33 out-of-range: offset -1: expected 0 to 65535"),
        (
            "{bytes: {base: network, offset: 0, value: f}}",
            "1:43 bad-value: hex 'f': expected 1 to 1024 bytes of two hex digits, such as 'de ad be ef'",
        ),
        (
            "{bytes: {base: network, offset: 0, value: ff, mask: ffff}}",
            "1:53 bad-value: mask of 2 bytes: expected the 1 of the value",
        ),
        (
            "{bytes: {base: network, offset: 0, value: ff, mask: 0f}}",
            "1:43 contradiction: bits of the value are outside the mask, so nothing matches: expected a value wi",
        ),
        (
            "{bytes: {base: network, offset: 0, value: ff, length: 1}}",
            "1:47 unknown-key: unknown key 'length': expected one of base, offset, value, mask",
        ),
        ("{scapy.DNSQQ.qname: a}", "1:2 unknown-field: scapy has no layer 'DNSQQ': expected the name of a class "),
        (
            "{scapy.DHCP.optoins: a}",
            "1:2 unknown-field: scapy layer 'DHCP' has no field 'optoins': expected one of options ",
        ),
        ("{scapy.IP.options: a}", "1:2 wrong-form: scapy.IP.options holds layers: name a field of them, such as "),
        (
            "{scapy.GTPHeader.teid: 1}",
            "1:2 ambiguous-name: scapy has several layers 'GTPHeader': in scapy.contrib.gtp and ",
        ),
        ("{scapy.DNSQR.qname: 5}", "1:21 wrong-type: the number '5': expected a text; quotes make it a text ('5')"),
        ("{scapy.TCP.sport: 70000}", "1:19 out-of-range: scapy.TCP.sport 70000: expected 0 to 65535"),
        ("{scapy.DNS.opcode: QERY}", "1:20 unknown-name: scapy.DNS.opcode 'QERY': expected 0 to 15 or a name"),
        ("{scapy.TCP.sport: {contains: a}}", "1:20 wrong-form: 'contains' is no comparison of scapy.TCP.sport"),
        ("{scapy.TLSClientHello.ciphers: {foo: a}}", "1:33 unknown-key: 'foo' is no comparison of"),
    ],
)
def test_conditions_that_are_wrong(text: str, message: str) -> None:
    scope = a_scope()
    assert parse_match(node_of(text), scope) is None
    assert [one[: len(message)] for one in said(scope)] == [message]


def test_all_mistakes_are_reported_at_once() -> None:
    scope = a_scope()
    assert parse_match(node_of("{dport: x, any: [{saddr: y}, {foo: 1}], bytes: {}}"), scope) is None
    assert [one.at.column for one in scope.problems.errors] == [9, 26, 31, 48]


def test_what_is_unknown_in_a_definition_is_reported_once_however_often_it_is_used() -> None:
    scope = a_scope()
    scope.defines = {"bad": node_of("{dprot: 1}", file="d.yaml")}
    assert parse_match(node_of("{any: [$bad, $bad]}"), scope) is None
    assert [str(one.at) for one in scope.problems.errors] == ["d.yaml:1:2"]


# Whatever nodes there are, nothing is raised, and None is returned exactly when something was reported.

_WORDS = """
any all not bytes python lt ge contains regex hex length equals base offset value mask inner.saddr inner.inner.sport
scapy.DNS.qr scapy.X.y scapy. $lan $web $hosts $seen $none $broken tcp ssh 1-5 5-1 192.0.2.0/24 ::1 syn/ack 0x1/0xff
( * eth* network a:b reject queue 10/second rate per set file element accept tcp-reset 1h 10MiB max prefix timeout
x.pcapng
"""
_TEXTS = st.sampled_from([*FIELDS, *SETS, *_WORDS.split(), ""]) | st.text(max_size=5)


def _scalar(value: str | float | bool | None) -> Scalar:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return Scalar(value, text, at(1), 1)


_SCALARS = st.builds(
    _scalar,
    _TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=True) | st.just(math.inf),
)


def _mapping(entries: dict[str, Node]) -> Mapping:
    return Mapping(tuple((Scalar(key, key, at(1), 1), value) for key, value in entries.items()), at(1))


def _containers(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    lists = st.lists(inner, max_size=4).map(lambda items: Sequence(tuple(items), at(1)))
    return lists | st.dictionaries(_TEXTS, inner, max_size=4).map(_mapping)


_NODES: st.SearchStrategy[Node] = st.recursive(_SCALARS, _containers, max_leaves=12)


@given(_NODES, st.lists(st.sampled_from(Hook), max_size=2))
@settings(max_examples=400, deadline=None)
def test_no_match_raises(node: Node, hooks: list[Hook]) -> None:
    scope = a_scope()
    condition = parse_match(node, scope, hooks)
    assert condition is not None or scope.problems.errors or "$broken" in str(node)
    assert all(one.kind in KINDS and one.message for one in scope.problems.errors)


@given(st.sampled_from(list(FIELDS)), _NODES)
@settings(max_examples=400, deadline=None)
def test_no_value_raises(field: str, node: Node) -> None:
    scope = a_scope()
    condition = parse_match(_mapping({field: node}), scope)
    assert condition is not None or scope.problems.errors or "$broken" in str(node)


@pytest.mark.parametrize("parse", [parse_verdict, parse_limit])
@given(node=_NODES)
@settings(deadline=None)
def test_no_verdict_and_no_limit_raises(parse: Callable[..., object], node: Node) -> None:
    scope = a_scope()
    assert parse(node, scope) is not None or scope.problems.errors or "$broken" in str(node)


@given(st.dictionaries(st.sampled_from(ACTIONS), _NODES))
@settings(max_examples=200, deadline=None)
def test_no_action_raises(entries: dict[str, Node]) -> None:
    scope = a_scope()
    found = parse_actions(_mapping(entries), scope)
    logs_nothing = entries.get("log") == _scalar(False)
    assert len(found) == len(entries) - logs_nothing or scope.problems.errors or "$broken" in str(entries)

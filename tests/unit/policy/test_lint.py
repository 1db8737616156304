"""Rules that nothing reaches, marks that collide."""

from __future__ import annotations

import pytest

from qfilter.errors import PolicyError
from qfilter.policy import covering
from qfilter.policy.load import loads

HEAD = "version: 1\ndefault: {input: drop, forward: drop}\nsets: {seen: {type: address, dynamic: true}}\n"
USE = "- {id: use, hook: input, match: {iifname: x}, add: {set: seen, element: saddr}}\n"


def said(severity: str, *rules: str) -> list[str]:
    """What is said, as an error or as a warning, about rules that are never reached."""
    text = HEAD + "rules:\n" + USE + "".join(f"- {{{rule}}}\n" for rule in rules)
    try:
        found = loads(text, "p.yaml").warnings
    except PolicyError as error:
        found = error.diagnostics
    assert {(each.kind, each.severity) for each in found} <= {("unreachable", severity)}
    return [each.message.removeprefix("rule ") for each in found]


def dead(*rules: str) -> list[str]:
    return said("error", *rules)


def warnings(*rules: str) -> list[str]:
    return said("warning", *rules)


TCP = "match: {protocol: tcp}"


@pytest.mark.parametrize(
    ("first", "second", "unreachable"),
    [
        ("verdict: drop", f"{TCP}, verdict: accept", True),
        ("verdict: drop", "log: true", True),
        (f"{TCP}, verdict: drop", f"{TCP}, verdict: accept", True),
        (f"{TCP}, verdict: drop", "match: {protocol: 6}, verdict: accept", True),
        (f"{TCP}, verdict: drop", f"{TCP}, rules: [{{verdict: accept}}]", True),
        ("hook: [input, forward], verdict: drop", "verdict: accept", True),
        (f"{TCP}, verdict: drop", "match: {protocol: udp}, verdict: accept", False),
        (f"{TCP}, verdict: drop", "verdict: accept", False),
        (f"{TCP}, log: true", f"{TCP}, verdict: accept", False),
        (f"{TCP}, hook: input, verdict: drop", f"{TCP}, verdict: accept", False),
        (f"{TCP}, limit: {{rate: 1/second}}, verdict: drop", f"{TCP}, verdict: accept", False),
        (f"{TCP}, rules: [{{verdict: drop}}]", f"{TCP}, verdict: accept", False),
        # in between, an action may have changed what these look at
        ("match: {mark: 1}, verdict: drop", "match: {mark: 1}, verdict: accept", False),
        ("match: {saddr: $seen}, verdict: drop", "match: {saddr: $seen}, verdict: accept", False),
        ("match: {not: {saddr: {not: $seen}}}, verdict: drop", "match: {not: {saddr: {not: $seen}}}, log: true", False),
        ("match: {not: {dport: 1}}, verdict: drop", "match: {not: {dport: 1}}, verdict: accept", True),
        (
            "match: {any: [{dport: 1}, {ttl: 1}]}, verdict: drop",
            "match: {any: [{dport: 1}, {ttl: 1}]}, log: true",
            True,
        ),
    ],
)
def test_unreachable(first: str, second: str, unreachable: bool) -> None:
    expected = ["'b' is never reached: 'a' at p.yaml:6:3 decides all its packets"] if unreachable else []
    assert dead(f"id: a, {first}", f"id: b, {second}") == expected


INSIDE = [
    ("protocol: tcp, dport: 1-1024", "protocol: tcp, dport: 22"),
    ("protocol: tcp", "protocol: tcp, dport: 22"),
    ("protocol: tcp", "dport: 22, protocol: tcp, tcp.flags: syn"),
    ("protocol: [tcp, udp], dport: [22, 80-90]", "protocol: udp, dport: [80, 85-90]"),
    ("dport: {ge: 1024}", "dport: {gt: 1024, lt: 2000}"),
    ("saddr: 192.0.2.0/24", "saddr: 192.0.2.7"),
    ("saddr: [192.0.2.0/24, '2001:db8::/32']", "saddr: ['2001:db8:5::/48', 192.0.2.128/25], dport: 22"),
    ("saddr: 0.0.0.0/0", "saddr: 192.0.2.7"),
    ("saddr: '::/0'", "saddr: '2001:db8::/32'"),
    ("inner.saddr: 192.0.2.0/24", "inner.saddr: 192.0.2.7"),
    ("iifname: lo", "iifname: lo, ttl: 255"),
    ("any: [{dport: 1}, {ttl: 1}], protocol: tcp", "protocol: tcp, any: [{dport: 1}, {ttl: 1}], daddr: 192.0.2.1"),
    ("all: [{protocol: tcp}, {all: [{dport: 1-9}]}]", "protocol: tcp, dport: 5"),
]
"""Matches, and others that each is a superset of."""
BESIDE = [
    ("dport: 22, protocol: tcp", "dport: 22"),
    ("protocol: tcp, dport: 20-25", "protocol: tcp, dport: 20-26"),
    ("protocol: tcp, dport: [20, 22]", "protocol: tcp, dport: 20-22"),
    ("dport: 1-1024", "sport: 22"),
    ("saddr: 192.0.2.0/25", "saddr: 192.0.2.0/24"),
    ("saddr: 0.0.0.0/0", "saddr: '::1'"),
    ("saddr: 192.0.2.0/24", "saddr: [192.0.2.7, '2001:db8::1']"),
    ("saddr: 192.0.2.0/24", "inner.saddr: 192.0.2.7"),
    ("saddr: 192.0.2.0/24", "not: {saddr: 192.0.2.7}"),
    ("dport: 1-100", "any: [{dport: 22}, {ttl: 5}]"),
    ("mark: 0-100", "mark: 5"),
    ("protocol: udp, saddr: $seen", "protocol: udp, saddr: $seen, dport: 53"),
]


@pytest.mark.parametrize(("wide", "narrow"), INSIDE)
def test_what_lies_inside_an_earlier_match_is_unreachable(wide: str, narrow: str) -> None:
    unreachable = ["'b' is never reached: 'a' at p.yaml:6:3 decides all its packets"]
    first, second = f"id: a, match: {{{wide}}}", f"id: b, match: {{{narrow}}}"
    assert dead(f"{first}, verdict: accept", f"{second}, verdict: drop") == unreachable
    assert dead(f"{first}, verdict: accept", f"{second}, hook: input, log: true") == unreachable
    assert dead(f"{first}, hook: input, verdict: accept", f"{second}, verdict: drop") == []
    assert dead(f"{first}, limit: {{rate: 1/day}}, verdict: accept", f"{second}, verdict: drop") == []
    assert dead(f"{first}, count: a", f"{second}, verdict: drop") == []
    assert dead(f"id: b, match: {{{narrow}}}, verdict: drop", f"id: a, match: {{{wide}}}, verdict: accept") == []


@pytest.mark.parametrize(("one", "other"), BESIDE)
def test_what_only_shares_packets_with_an_earlier_match_is_reached(one: str, other: str) -> None:
    assert dead(f"id: a, match: {{{one}}}, verdict: accept", f"id: b, match: {{{other}}}, verdict: drop") == []


def test_a_long_list_covers_what_is_in_it() -> None:
    ports = ", ".join(str(port) for port in range(1, 1000, 2))
    first = f"id: a, match: {{protocol: tcp, dport: [{ports}]}}, verdict: drop"
    alone = f"id: alone, match: {{ttl: [{', '.join(map(str, range(1, 255, 2)))}]}}, verdict: drop"
    second = ["id: b, match: {protocol: tcp, dport: [7, 9]}, log: true", "id: c, match: {ttl: 9, dport: 2}, log: true"]
    assert dead(first, alone, *second) == [
        "'b' is never reached: 'a' at p.yaml:6:3 decides all its packets",
        "'c' is never reached: 'alone' at p.yaml:7:3 decides all its packets",
    ]
    assert dead(first, "id: d, match: {protocol: tcp, dport: [7, 8]}, log: true") == []


def test_it_is_found_among_many_rules() -> None:
    """Ten thousand siblings that cover nothing; comparing all with all would take minutes."""
    many = [f"match: {{protocol: tcp, saddr: 10.{n >> 8}.{n & 255}.0/24}}, verdict: drop" for n in range(10_000)]
    assert dead(*many, "id: b, match: {saddr: 10.1.2.3, protocol: tcp}, verdict: accept") == [
        "'b' is never reached: 'p.yaml:264' at p.yaml:264:3 decides all its packets"
    ]


def test_a_rule_is_compared_with_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port ranges that all overlap, of which none lies inside another."""
    compared = 0
    compare = covering._Later.is_covered_by

    def counted(later: covering._Later, other: covering._Filed) -> bool:
        nonlocal compared
        compared += 1
        return compare(later, other)

    monkeypatch.setattr(covering._Later, "is_covered_by", counted)
    rules = [f"match: {{protocol: tcp, dport: {n}-{n + 20_000}}}, verdict: drop" for n in range(1, 601)]
    assert dead(*rules, "id: b, match: {protocol: tcp, dport: 700}, verdict: accept") == [
        "'b' is never reached: 'p.yaml:6' at p.yaml:6:3 decides all its packets"
    ]
    assert 0 < compared <= 601 * 128


def test_inside_a_rule() -> None:
    inner = "{id: a, verdict: drop}, {id: b, verdict: accept}"
    assert dead(f"id: tcp, {TCP}, rules: [{inner}]") == [
        "'b' is never reached: 'a' at p.yaml:6:45 decides all its packets"
    ]


def test_a_hook_that_is_not_in_force() -> None:
    assert warnings("id: a, hook: output, verdict: drop") == [
        "'a' is never reached: its hook 'output' never comes here: expected a hook in force here: input, forward"
    ]
    assert warnings("id: a, hook: [input, output], verdict: drop") == []


def test_a_hook_that_the_outer_rule_does_not_have() -> None:
    assert warnings("hook: input, rules: [{id: a, hook: forward, verdict: drop}]") == [
        "'a' is never reached: its hook 'forward' never comes here: expected a hook in force here: input"
    ]


def test_marks_that_qfilter_needs_itself() -> None:
    with pytest.raises(PolicyError) as caught:
        loads(HEAD + f"rules:\n{USE}- {{rules: [{{id: a, mark: 0x10000001}}]}}\n")
    assert [found.message for found in caught.value.diagnostics] == [
        "mark 0x10000001 has bits of mark_mask 0xf0000000 in it: expected others"
    ]
    assert dead("mark: 1") == []

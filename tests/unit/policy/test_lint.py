"""Rules that nothing reaches, marks that collide."""

from __future__ import annotations

import pytest

from qfilter.errors import PolicyError
from qfilter.policy.load import loads

HEAD = "version: 1\ndefault: {input: drop, forward: drop}\nsets: {seen: {type: address, dynamic: true}}\n"
USE = "- {id: use, hook: input, match: {iifname: x}, add: {set: seen, element: saddr}}\n"


def warnings(*rules: str) -> list[str]:
    policy = loads(HEAD + "rules:\n" + USE + "".join(f"- {{{rule}}}\n" for rule in rules), "p.yaml")
    return [found.message.removeprefix("rule ") for found in policy.warnings]


TCP = "match: {protocol: tcp}"


@pytest.mark.parametrize(
    ("first", "second", "dead"),
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
def test_unreachable(first: str, second: str, dead: bool) -> None:
    expected = ["'b' is never reached: 'a' at p.yaml:6:3 decides all its packets"] if dead else []
    assert warnings(f"id: a, {first}", f"id: b, {second}") == expected


def test_inside_a_rule() -> None:
    inner = "{id: a, verdict: drop}, {id: b, verdict: accept}"
    assert warnings(f"id: tcp, {TCP}, rules: [{inner}]") == [
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
        warnings("rules: [{id: a, mark: 0x10000001}]")
    assert [found.message for found in caught.value.diagnostics] == [
        "mark 0x10000001 has bits of mark_mask 0xf0000000 in it: expected others"
    ]
    assert warnings("mark: 1") == []

"""Whatever stands in a policy file: a policy, or a PolicyError that points at mistakes in it. Nothing else."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from qfilter.errors import PolicyError
from qfilter.fields import FIELDS
from qfilter.model.policy import Policy
from qfilter.policy.load import loads
from tests.fuzz.generated import HEAD, SETS, examples, rules, written

WHOLE = (
    (HEAD + SETS + "queue: {number: 0-3, deadline: 100ms, exempt: [lo]}\nallow: [tcp-flags]\n").encode()
    + b"""
define:
  lan: [192.0.2.0/24, '2001:db8::/64']
  web: {protocol: tcp, dport: [80, 443]}
rules:
  - &first {id: one, match: {saddr: $lan, all: [$web]}, log: {prefix: a}, verdict: accept}
  - id: two
    match: {payload: {regex: '^G', length: 0-64}, inner.saddr: {not: $hosts}, scapy.DNSQR.qname: {contains: a}}
    limit: {rate: 10/second, burst: 20, per: [saddr, dport], over: true}
    rules: [{match: {bytes: {base: network, offset: 0, value: 'ff 00'}}, mark: {set: 1, mask: 3}, verdict: reject}]
  - {match: {dport: $ports, any: [{ttl: $numbers}, {iifname: $words}]}, add: {set: seen, element: saddr}, scope: packet}
  - {match: {saddr: $seen, sport: $knocked}, capture: {file: a.pcapng, max: 1 MiB}, verdict: {queue: 7}}
tests:
  - {packet: {hook: input, saddr: 192.0.2.1, dport: 80, protocol: tcp}, expect: accept, by: one}
"""
)
_TRAPS = """
~ $lan $ * &a *a << !!python/object:os.system null yes 0x - 1e999 .nan 1:2 010 {} [] not any id match rules accept - |
2001:db8::/129 1- -1 \x00 é syn, / 0/0 %eth0 # inner.inner.inner.inner.inner.saddr scapy.. scapy.IP
"""
_WORDS = st.sampled_from([*FIELDS, *_TRAPS.split(), "", "| ", "9" * 400, "a" * 70])


def outcome(text: bytes | str) -> Policy | PolicyError:
    """What becomes of a text; a mistake has a kind, words and a place."""
    try:
        return loads(text)
    except PolicyError as mistakes:
        error = mistakes
    assert error.diagnostics
    for found in error.diagnostics:
        assert found.kind
        assert found.message
        assert found.at.line >= 1
        assert found.at.column >= 1
        assert str(found)
    return error


def anything(keys: SearchStrategy[str]) -> SearchStrategy[object]:
    """Lists and mappings of whatever YAML has."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=6)
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


@examples(150)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_any_bytes(text: bytes | str) -> None:
    outcome(text)


@examples(150)
@given(st.data())
def test_a_policy_with_something_wrong_in_it(data: st.DataObject) -> None:
    text = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        change = data.draw(st.sampled_from(["byte", "cut", "word", "twice"]))
        if change == "byte":
            text[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del text[at : at + data.draw(st.integers(1, 30))]
        elif change == "word":
            text[at:at] = data.draw(_WORDS).encode()
        else:
            text[at:at] = text[at : at + 40]
    outcome(bytes(text))


SECTIONS: tuple[str, ...] = (
    "version",
    "include",
    "define",
    "sets",
    "default",
    "on_failure",
    "allow",
    "queue",
    "rules",
    "tests",
)


@examples(100)
@given(st.sampled_from(SECTIONS), anything(_WORDS))
def test_anything_as_a_section(section: str, value: object) -> None:
    lines = [line for line in HEAD.splitlines() if not line.startswith(section + ":")]
    outcome("\n".join([*lines, f"{section}: {written(value)}"]))


@examples(150)
@given(
    st.sampled_from(["match", "limit", "log", "count", "mark", "add", "delete", "capture", "verdict", "scope", "hook"]),
    anything(_WORDS),
)
def test_anything_as_a_part_of_a_rule(key: str, value: object) -> None:
    outcome(HEAD + f"rules:\n  - {{{key}: {written(value)}, verdict: drop}}\n")


@examples(200)
@given(
    st.sampled_from([*sorted(FIELDS), "bytes", "python", "scapy.IP.ttl", "scapy.DNSQR.qname", "any", "not"]),
    anything(_WORDS),
)
def test_anything_as_a_value(field: str, value: object) -> None:
    outcome(HEAD + f"rules:\n  - {{match: {{{field}: {written(value)}}}, verdict: drop}}\n")


@examples(30)
@given(st.lists(rules(), max_size=3))
def test_loading_is_the_same_twice(some: list[object]) -> None:
    text = HEAD + SETS + "rules:\n" + "".join(f"  - {written(rule)}\n" for rule in some) if some else HEAD
    first, second = outcome(text), outcome(text)
    assert repr(first) == repr(second)


def nested(open_: str, close: str, depth: int) -> str:
    """Something inside itself."""
    return open_ * depth + close * depth


BOMBS: dict[str, Callable[[], str]] = {
    "lists": lambda: nested("[", "]", 100_000),
    "mappings": lambda: nested("{a: ", "}", 100_000),
    "not": lambda: HEAD + f"rules: [{{match: {nested('{not: ', '}', 57)}, verdict: drop}}]",
    "values": lambda: HEAD + f"rules: [{{match: {{saddr: {nested('{not: ', '}', 57)}}}, verdict: drop}}]",
    "any": lambda: HEAD + f"rules: [{{match: {nested('{any: [', ']}', 29)}, verdict: drop}}]",
    "aliases": lambda: (
        HEAD
        + "define:\n  a0: &a0 [1]\n"
        + "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    ),
    "references": lambda: (
        HEAD + "define:\n  a0: [1]\n" + "".join(f"  a{n}: [{', '.join([f'$a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    ),
    "a long key": lambda: HEAD + f"{'k' * 200_000}: 1",
    "a long value": lambda: HEAD + f"rules: [{{match: {{saddr: {'1' * 200_000}}}, verdict: drop}}]",
    "a big regex": lambda: HEAD + "rules: [{match: {payload: {regex: '((a{1,100}){1,100}){1,100}'}}, verdict: drop}]",
}


def test_bombs_are_mistakes() -> None:
    for name, bomb in BOMBS.items():
        assert isinstance(outcome(bomb()), PolicyError), name


def test_a_default_that_says_nothing_is_a_mistake() -> None:
    found = outcome("version: 1\ndefault:\nrules: []\n")
    assert isinstance(found, PolicyError)
    assert [one.kind for one in found.diagnostics] == ["wrong-type"]


def test_rules_inside_rules_as_deep_as_a_file_may_be() -> None:
    assert isinstance(outcome(HEAD + f"rules: [{nested('{rules: [', ']}', 30)}]"), Policy)


def test_the_whole_policy_is_right() -> None:
    assert isinstance(outcome(WHOLE), Policy)

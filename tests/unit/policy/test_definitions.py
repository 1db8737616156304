"""Names: one namespace, no cycles, a bound on what they expand to."""

from __future__ import annotations

import pytest

from qfilter.errors import PolicyError
from qfilter.policy.load import loads

HEAD = "version: 1\ndefault: {input: drop}\n"


def said(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loads(HEAD + text, "p.yaml")
    return [f"{found.at.line}:{found.at.column} {found.kind}: {found.message}" for found in caught.value.diagnostics]


def use(*names: str) -> str:
    return f"rules: [{{match: {{dport: [{', '.join('$' + name for name in names)}]}}, verdict: drop}}]"


def test_every_cycle_is_said_once() -> None:
    text = "define: {a: $b, b: $c, c: [1, $a], self: $self, leads: [$a], fine: 1}\n" + use("leads", "self", "fine")
    assert said(text) == [
        "3:13 cyclic: '$a' refers to itself: '$a' -> '$b' -> '$c' -> '$a'",
        "3:42 cyclic: '$self' refers to itself: '$self' -> '$self'",
    ]


def test_definitions_that_explode() -> None:
    names = [f"d{n}: [{', '.join([f'$d{n + 1}'] * 10)}]" for n in range(6)]
    (line,) = said(f"define: {{{', '.join(names)}, d6: 1}}\n" + use("d1"))[-1:]
    assert line.endswith("alias-bomb: '$d1' expands to more than 100,000 values: expected a set")


def test_a_long_chain_of_names_is_one_value() -> None:
    chain = ", ".join(f"d{n}: $d{n + 1}" for n in range(5_000))
    (rule,) = loads(f"{HEAD}define: {{{chain}, d5000: 22}}\n" + use("d0")).rules
    assert "Ranges(ranges=((22, 22),))" in str(rule.match)


def test_a_long_chain_of_lists_is_too_deep() -> None:
    chain = ", ".join(f"d{n}: [$d{n + 1}]" for n in range(5_000))
    lines = said(f"define: {{{chain}, d5000: 22}}\n" + use("d0"))
    assert lines[0].endswith("too-deep: '$d0' expands to lists deeper than 32")


def test_undefined_inside_a_definition() -> None:
    assert said("define: {a: [$b]}\n" + use("a")) == [
        "3:14 undefined: '$b' is not defined: expected a name of define: or sets:"
    ]


def test_a_name_that_is_near() -> None:
    with pytest.raises(PolicyError) as caught:
        loads(HEAD + "define: {web: 80}\n" + use("web", "wen"))
    assert [found.suggestion for found in caught.value.diagnostics] == ["$web"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("define: []", "3:9 wrong-type: a list: expected a mapping of names"),
        ("sets: 5", "3:7 wrong-type: the number '5': expected a mapping of names"),
        ("define: {'': 1}", "3:10 bad-value: name '': expected a letter or _"),
        ("define: {'1a': 1}", "3:10 bad-value: name '1a': expected a letter or _"),
        (
            "rules: [{match: {dport: $}, verdict: drop}]",
            "3:25 undefined: '$' is not defined: expected a name; quote it",
        ),
    ],
)
def test_names_that_cannot_be(text: str, line: str) -> None:
    (found,) = said(text)
    assert found.startswith(line)

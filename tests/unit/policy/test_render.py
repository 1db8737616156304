"""Diagnostics as text and as JSON."""

from __future__ import annotations

import json

import pytest

from qfilter.errors import Diagnostic, PolicyError, Position
from qfilter.policy.load import loads
from qfilter.policy.render import as_dict, as_text


def diagnostic(source: str, column: int, width: int) -> Diagnostic:
    return Diagnostic(kind="bad-value", at=Position("p.yaml", 1, column), message="m", source=source, width=width)


def test_a_block() -> None:
    with pytest.raises(PolicyError) as caught:
        loads("version: 1\ndefault: {input: drop}\nrules:\n  - {match: {dprt: 22}, verdict: drop}\n", "p.yaml")
    assert as_text(caught.value.diagnostics) == (
        "p.yaml:4:14: error: unknown field 'dprt': expected a field (`qfilter fields` lists them)"
        " (did you mean 'dport'?)\n"
        "      - {match: {dprt: 22}, verdict: drop}\n"
        "                 ^^^^\n"
    )


def test_the_include_stack() -> None:
    found = Diagnostic(
        kind="include",
        at=Position("b.yaml", 1, 1),
        message="m",
        included_from=(Position("a.yaml", 2, 3), Position("p.yaml", 4, 5)),
    )
    assert as_text([found]) == ("b.yaml:1:1: error: m\n  included from a.yaml:2:3\n  included from p.yaml:4:5\n")


@pytest.mark.parametrize(
    ("source", "column", "width", "shown"),
    [
        ("abc", 2, 1, "    abc\n     ^\n"),
        ("abc", 2, 99, "    abc\n     ^^\n"),
        ("abc", 4, 1, "    abc\n       ^\n"),
        ("\tabc", 2, 3, "    \tabc\n    \t^^^\n"),
        ("grün: x", 7, 1, "    grün: x\n          ^\n"),
        ("a\x1b[31mb", 7, 1, "    a\N{REPLACEMENT CHARACTER}[31mb\n          ^\n"),
        ("x" * 300, 200, 2, f"    ...{'x' * 120}...\n{' ' * 67}^^\n"),
        ("", 1, 1, ""),
    ],
)
def test_the_caret(source: str, column: int, width: int, shown: str) -> None:
    assert as_text([diagnostic(source, column, width)]) == f"p.yaml:1:{column}: error: m\n{shown}"


def test_nothing() -> None:
    assert as_text([]) == ""


def test_json() -> None:
    assert json.loads(json.dumps(as_dict(diagnostic("abc", 2, 1)))) == {
        "kind": "bad-value",
        "severity": "error",
        "message": "m",
        "file": "p.yaml",
        "line": 1,
        "column": 2,
        "width": 1,
        "source": "abc",
        "suggestion": None,
        "included_from": [],
    }

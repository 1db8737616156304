"""Which tests only Python can decide, and so where each rule is decided."""

from __future__ import annotations

from qfilter import regex
from qfilter.compiler import walk
from qfilter.model.match import AllMatch, AnyMatch, Match, NotMatch, Text, TextTest
from qfilter.model.plan import Place
from qfilter.model.rule import FieldTest, PythonTest, Rule, ScapyTest


def place(rule: Rule) -> Place:
    """Native code, unless one of the rule's own tests needs Python; the rules inside it have places of their own."""
    return Place.PYTHON if any(map(needs_python, walk.tests(rule.match))) else Place.NATIVE


def reasons(rule: Rule) -> tuple[str, ...]:
    """Why a rule needs Python, in file order and each once: `scapy.DNSQR.qname`, `python my.check`, `payload regex`."""
    return tuple(dict.fromkeys(_name(test) for test in walk.tests(rule.match) if needs_python(test)))


def needs_python(test: walk.Test) -> bool:
    """Whether scapy reads it, a function of the operator's answers it, or only RE2 understands its pattern."""
    match test:
        case FieldTest(_, match):
            return _needs_re2(match)
        case ScapyTest() | PythonTest():
            return True
    return False


def _needs_re2(match: Match) -> bool:
    match match:
        case Text(TextTest.REGEX, pattern):
            return regex.translate(pattern) is None
        case NotMatch(inner):
            return _needs_re2(inner)
        case AnyMatch(inners) | AllMatch(inners):
            return any(map(_needs_re2, inners))
    return False


def _name(test: walk.Test) -> str:
    match test:
        case ScapyTest(layer, field):
            return f"scapy.{layer}.{field}"
        case PythonTest(predicate):
            return f"python {predicate.name}"
        case FieldTest(field, _, _, depth):
            return f"{'inner.' * depth}{field} regex"
        case _:
            return "bytes"

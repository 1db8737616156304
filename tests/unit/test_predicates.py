"""Conditions that a program registers for the policies that it loads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qfilter.model.packet import Packet
from qfilter.predicates import find, predicate
from tests.unit.engine.policies import engine, packet, said

RULES = "rules:\n  - {id: asked, match: {python: test.predicates}, verdict: accept}\n"


def register(answer: bool) -> Callable[[Packet], bool]:
    @predicate("test.predicates", needs=("protocol",))
    def mine(_: Packet) -> bool:
        return answer

    return mine


def test_a_policy_keeps_the_function_that_it_was_loaded_with() -> None:
    first = register(True)
    old = engine(RULES)
    second = register(False)
    assert first is not second
    assert said(engine(RULES).decide(packet())) == ("drop", "default", None)
    assert said(old.decide(packet())) == ("accept", "rule", "asked")


def test_a_name_that_another_function_holds() -> None:
    mine = register(True)
    with pytest.raises(ValueError, match=r"'test\.predicates': already registered by tests\.unit\.test_predicates\."):

        @predicate("test.predicates")
        def other(_: Packet) -> bool:
            return False

    found = find("test.predicates")
    assert found is not None
    assert found.function is mine


def test_a_need_that_is_no_field() -> None:
    with pytest.raises(ValueError, match=r"predicate 'test\.wrong': 'dprot' is not a field"):
        predicate("test.wrong", needs=("dprot",))
    assert find("test.wrong") is None

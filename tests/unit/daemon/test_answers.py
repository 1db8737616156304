"""Which answers go to the queues together, and when."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from qfilter.daemon import answers
from qfilter.daemon.answers import TOGETHER, Answer, Answers

A, B, C = ((0, ticket, True, "") for ticket in range(3))

Step = Callable[[Answers], None]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


def last(*told: Answer) -> Step:
    """Answers after which nobody has a question."""
    return lambda answers: answers.add(told, more=False)


def one(*told: Answer) -> Step:
    """Answers after which there are more questions."""
    return lambda answers: answers.add(told, more=True)


def overdue(answers: Answers) -> None:
    answers.give_overdue(0.0)


@pytest.mark.parametrize(
    ("steps", "given"),
    [
        ([last(A)], [[A]]),
        ([last()], []),
        ([one(A)], []),
        ([one(A), one(B), last(C)], [[A, B, C]]),
        ([one(A), last()], [[A]]),
        ([last(A), one(B), last(C)], [[A], [B, C]]),
        ([overdue], []),
        ([one(A), overdue], [[A]]),
        ([one(A), one(B), overdue, overdue, last(C)], [[A, B], [C]]),
        ([one(A), last(), overdue], [[A]]),
    ],
)
def test_answers_go_together_while_there_are_questions(
    clock: Clock, steps: list[Step], given: list[list[Answer]]
) -> None:
    got: list[list[Answer]] = []
    answers = Answers(got.append)
    for step in steps:
        step(answers)
    assert got == given


def test_the_time_of_a_group_is_that_of_its_first(clock: Clock) -> None:
    got: list[list[Answer]] = []
    answers = Answers(got.append)
    answers.add([A], more=True)
    clock.sleep(TOGETHER / 2)
    answers.add([B], more=True)
    assert got == []
    clock.sleep(TOGETHER / 2)
    answers.add([C], more=True)
    answers.add([A], more=True)
    assert got == [[A, B, C]]


def test_whoever_keeps_the_time_leaves_a_group_that_has_just_begun(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it slept the group that it slept for was given, and another begun."""
    got: list[list[Answer]] = []
    told = Answers(got.append)

    def meanwhile(seconds: float) -> None:
        clock.sleep(seconds)
        told.add([], more=False)
        told.add([B], more=True)

    monkeypatch.setattr("qfilter.daemon.answers.time.sleep", meanwhile)
    told.add([A], more=True)
    told.give_overdue(0.0)
    assert got == [[A]]


def test_what_giving_raises_comes_out(clock: Clock) -> None:
    def give(_answers: list[Answer]) -> None:
        raise OSError(105, "No buffer space available")

    with pytest.raises(OSError, match="No buffer space"):
        Answers(give).add([A], more=False)

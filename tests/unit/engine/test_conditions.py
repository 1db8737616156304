"""Slow and foreign code in conditions: answers that come late, and exceptions that misbehave."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from qfilter.daemon.preparing import EngineName, engine_maker
from qfilter.engine.base import Engine
from qfilter.engine.clock import Clock
from qfilter.engine.native import NativeEngine
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import PolicyError
from qfilter.model.packet import Packet
from qfilter.model.verdict import Verdict
from qfilter.policy.load import loads
from qfilter.predicates import predicate
from tests.unit.engine.policies import engine, said, tcp


class _Told:
    """A clock that predicates move, and what one raises."""

    now = 0
    raises: BaseException


class PanicException(BaseException):
    """As PyO3 has it for what panics in Rust."""


class _LastWordsError(Exception):
    def __str__(self) -> str:
        raise SystemExit(0)


class _WithoutWordsError(Exception):
    def __str__(self) -> str:
        raise _WithoutWordsError


@predicate("test.takes_60ms")
def _slow(_: Packet) -> bool:
    _Told.now += 60_000_000
    return True


@predicate("test.without_words")
def _without_words(_: Packet) -> bool:
    raise _WithoutWordsError


@predicate("test.escapes")
def _escapes(_: Packet) -> bool:
    raise ValueError("\x1b[2J\r\n\u202e" + "x" * 10_000)


@predicate("test.raises_next")
def _raises_next(_: Packet) -> bool:
    raise _Told.raises


@pytest.fixture(autouse=True)
def _at_zero() -> None:
    _Told.now = 0


def judged(deadline: str, match: str) -> ReferenceEngine:
    text = (
        f"version: 1\ndefault: {{input: drop}}\nqueue: {{deadline: {deadline}}}\n"
        f"rules:\n  - {{id: slow, match: {match}, verdict: accept}}\n"
    )
    return ReferenceEngine(loads(text), Clock(monotonic=lambda: _Told.now))


class TestDeadline:
    def test_an_answer_in_time_counts(self) -> None:
        assert said(judged("60ms", "{python: test.takes_60ms}").decide(tcp(22))) == ("accept", "rule", "slow")

    def test_one_that_is_late_does_not(self) -> None:
        verdict = judged("59ms", "{python: test.takes_60ms}").decide(tcp(22))
        assert (said(verdict), verdict.detail) == (("drop", "deadline", "slow"), "python test.takes_60ms")

    def test_all_of_a_packets_slow_conditions_count_together(self) -> None:
        match = "{all: [{python: test.takes_60ms}, {python: test.takes_60ms}]}"
        assert said(judged("120ms", match).decide(tcp(22))) == ("accept", "rule", "slow")
        assert said(judged("100ms", match).decide(tcp(22))) == ("drop", "deadline", "slow")

    def test_what_is_decided_without_it_is_decided(self) -> None:
        found = judged("10ms", "{any: [{python: test.takes_60ms}, {dport: 22}]}")
        assert said(found.decide(tcp(22))) == ("accept", "rule", "slow")
        assert said(found.decide(tcp(23))) == ("drop", "deadline", "slow")

    def test_fast_conditions_have_none(self) -> None:
        found = judged("1ms", "{not: {all: [{python: test.takes_60ms}, {dport: 23}]}, dport: 22}")
        assert said(found.decide(tcp(22))) == ("accept", "rule", "slow")

    def test_without_a_bound_it_waits(self) -> None:
        text = "rules:\n  - {id: slow, match: {python: test.takes_60ms}, verdict: accept}\n"
        assert said(engine(text, Clock(monotonic=lambda: _Told.now)).decide(tcp(22))) == ("accept", "rule", "slow")

    @pytest.mark.parametrize(("written", "seconds"), [("100ms", 0.1), ("1s500ms", 1.5), ("0.25", 0.25), ("2s", 2.0)])
    def test_how_it_is_written(self, written: str, seconds: float) -> None:
        assert judged(written, "{dport: 22}").policy.queue.deadline == seconds

    @pytest.mark.parametrize("written", ["0ms", "soon", "-1", "[1]", "ms"])
    def test_how_it_is_not(self, written: str) -> None:
        with pytest.raises(PolicyError):
            judged(written, "{dport: 22}")


@pytest.fixture(params=EngineName)
def asked(request: pytest.FixtureRequest) -> Engine:
    """Accepts what `test.raises_next` answers."""
    text = "rules:\n  - {id: bad, match: {python: test.raises_next}, verdict: accept}\n"
    return engine_maker(request.param, engine(text).policy)(None)


def elsewhere(work: Callable[[], Verdict]) -> Verdict:
    """In another thread, as a service does."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


class TestForeignExceptions:
    @pytest.mark.parametrize("raised", [SystemExit(0), CancelledError("x"), GeneratorExit(), PanicException("core")])
    def test_whatever_it_is(self, asked: Engine, raised: BaseException) -> None:
        _Told.raises = raised
        for verdict in (asked.decide(tcp(22)), elsewhere(lambda: asked.decide(tcp(22)))):
            assert said(verdict) == ("drop", "error", "bad")
            assert verdict.detail == f"{type(raised).__name__}: {raised}"

    def test_ctrl_c_ends_a_program_that_asks(self, asked: Engine) -> None:
        _Told.raises = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            asked.decide(tcp(22))

    def test_one_that_pretends_to_be_ctrl_c_ends_no_service(self, asked: Engine) -> None:
        _Told.raises = KeyboardInterrupt()
        verdict = elsewhere(lambda: asked.decide(tcp(22)))
        assert (said(verdict), verdict.detail) == (("drop", "error", "bad"), "KeyboardInterrupt: ")

    def test_one_whose_words_end_the_program(self, asked: Engine) -> None:
        _Told.raises = _LastWordsError()
        verdict = asked.decide(tcp(22))
        assert (said(verdict), verdict.detail) == (("drop", "error", "bad"), "_LastWordsError: it has no words")

    def test_a_panic_of_the_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        native = engine_maker(EngineName.NATIVE, engine("").policy)(None)
        assert isinstance(native, NativeEngine)

        class Core:
            """It panics, and counts that."""

            errors = 0

            def decide(self, *_: object) -> None:
                raise PanicException("index out of bounds")

            def count_error(self, _: int) -> None:
                self.errors += 1

        core = Core()
        monkeypatch.setattr(native, "core", core)
        verdict = native.decide(tcp(22))
        assert (said(verdict), verdict.detail) == (("drop", "error", None), "PanicException: index out of bounds")
        assert core.errors == 1

    def test_one_whose_words_cannot_be_had(self) -> None:
        verdict = engine("rules:\n  - {id: bad, match: {python: test.without_words}, verdict: accept}\n").decide(
            tcp(22)
        )
        assert (said(verdict), verdict.detail) == (("drop", "error", "bad"), "_WithoutWordsError: it has no words")

    def test_one_with_escapes_and_too_many_words(self) -> None:
        verdict = engine("rules:\n  - {id: bad, match: {python: test.escapes}, verdict: accept}\n").decide(tcp(22))
        assert verdict.detail.startswith(r"ValueError: \x1b[2J\r\n\u202exxx")
        assert verdict.detail.isprintable()
        assert len(verdict.detail) < 300

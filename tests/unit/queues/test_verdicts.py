"""Each verdict as the kernel takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.model.verdict import ACCEPT, DROP, Decision, Kind, Reason, RejectWith, Verdict
from qfilter.queues.verdicts import encode

HIGH = 0xF000_0000
OWN = 9
NF_DROP, NF_ACCEPT, NF_QUEUE, NF_REPEAT = 0, 1, 3, 4


def verdict(decision: Decision, mark: int | None = None) -> Verdict:
    return Verdict(decision, Reason.RULE, mark=mark)


def rejecting(answer: RejectWith) -> Decision:
    return Decision(Kind.REJECT, reject=answer)


def queueing(number: int) -> Decision:
    return Decision(Kind.QUEUE, queue=number)


REPEAT = Decision(Kind.REPEAT)


@pytest.mark.parametrize(
    ("given", "arrived_with", "mask", "value", "mark"),
    [
        (verdict(ACCEPT), 0x5, HIGH, NF_ACCEPT, None),
        (verdict(ACCEPT, 0x7), 0x5, HIGH, NF_ACCEPT, 0x7),
        (verdict(ACCEPT, 0), 0x5, HIGH, NF_ACCEPT, 0),
        (verdict(DROP), 0x5, HIGH, NF_DROP, None),
        (verdict(DROP, 0x7), 0x5, HIGH, NF_DROP, None),
        (verdict(REPEAT), 0x5, HIGH, NF_REPEAT, None),
        (verdict(REPEAT, 0x7), 0x5, HIGH, NF_REPEAT, 0x7),
        (verdict(queueing(0)), 0x5, HIGH, NF_QUEUE, None),
        (verdict(queueing(5)), 0x5, HIGH, 0x0005_0003, None),
        (verdict(queueing(65_535), 0x7), 0x5, HIGH, 0xFFFF_0003, 0x7),
        (verdict(rejecting(RejectWith.TCP_RESET)), 0, HIGH, NF_REPEAT, 0x1000_0000),
        (verdict(rejecting(RejectWith.REJECT_ROUTE)), 0, HIGH, NF_REPEAT, 0xC000_0000),
        (verdict(rejecting(RejectWith.PORT_UNREACHABLE)), 0x0ABC_DEF0, HIGH, NF_REPEAT, 0x2ABC_DEF0),
        (verdict(rejecting(RejectWith.PORT_UNREACHABLE), 0x7), 0x5, HIGH, NF_REPEAT, 0x2000_0007),
        (verdict(rejecting(RejectWith.HOST_UNREACHABLE)), 0xFFFF_FF0F, 0xF0, NF_REPEAT, 0xFFFF_FF3F),
        (verdict(rejecting(RejectWith.HOST_UNREACHABLE)), 0xFFFF_FFF0, 0xF, NF_REPEAT, 0xFFFF_FFF3),
    ],
)
def test_what_the_kernel_is_told(given: Verdict, arrived_with: int, mask: int, value: int, mark: int | None) -> None:
    assert encode(given, arrived_with, mask, OWN) == (value, mark)


@given(
    mark=st.integers(0, 0xFFFF_FFFF),
    new=st.none() | st.integers(0, 0xFFFF_FFFF),
    low=st.integers(0, 28),
    decision=st.sampled_from([ACCEPT, REPEAT, queueing(1), *map(rejecting, RejectWith)]),
)
def test_hand_back_bits_are_set_by_a_reject_and_by_nothing_else(
    mark: int, new: int | None, low: int, decision: Decision
) -> None:
    mask = 0xF << low
    mark &= ~mask
    given = verdict(decision, None if new is None else new & ~mask)
    _, sent = encode(given, mark, mask, OWN)
    after = mark if sent is None else sent
    assert (after & mask) >> low == (0 if decision.reject is None else decision.reject.code)
    assert after & ~mask == (mark if given.mark is None else given.mark)


@pytest.mark.parametrize("decision", [ACCEPT, DROP, REPEAT, queueing(1), rejecting(RejectWith.TCP_RESET)], ids=str)
def test_a_policy_cannot_hand_back_by_a_mark_of_its_own(decision: Decision) -> None:
    with pytest.raises(
        ValueError, match="mark 0x10000001: expected 32 bits, none of 0xf0000000, which hand rejects back"
    ):
        encode(verdict(decision, 0x1000_0001), 0, HIGH, OWN)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (verdict(ACCEPT, 1 << 32), "mark 0x100000000: expected 32 bits"),
        (verdict(ACCEPT, -1), "mark -0x1: expected 32 bits"),
        (verdict(Decision(Kind.QUEUE)), "queue None: expected 0 to 65535"),
        (verdict(queueing(OWN)), "queue 9: the packet is in that queue, expected another"),
        (verdict(queueing(65_536)), "queue 65536: expected 0 to 65535"),
        (verdict(Decision(Kind.REJECT)), "reject without an answer: expected one of RejectWith"),
    ],
)
def test_a_verdict_that_the_kernel_has_no_words_for(given: Verdict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        encode(given, 0, HIGH, OWN)


def test_without_hand_back_bits_every_mark_is_the_policys_and_nothing_is_rejected() -> None:
    assert encode(verdict(ACCEPT, 0xFFFF_FFFF), 0xF000_0000, 0, OWN) == (NF_ACCEPT, 0xFFFF_FFFF)
    with pytest.raises(ValueError, match="mark mask 0x0: expected four adjacent bits of 32"):
        encode(verdict(rejecting(RejectWith.TCP_RESET)), 0, 0, OWN)

"""Where rejects stand in a mark."""

from __future__ import annotations

import pytest

from qfilter.model.marks import can_hand_back, demand_hand_back, handed_back
from qfilter.model.verdict import RejectWith


@pytest.mark.parametrize(
    ("mask", "first", "last"),
    [(0xF, 1, 12), (0xF0, 0x10, 0xC0), (0x1E, 2, 24), (0xF000_0000, 0x1000_0000, 0xC000_0000)],
)
def test_where_an_answer_stands(mask: int, first: int, last: int) -> None:
    answers = [handed_back(mask, answer) for answer in RejectWith]
    assert (answers[0], answers[-1]) == (first, last)
    assert len(set(answers)) == len(RejectWith)
    assert all(0 < answer == answer & mask for answer in answers)


@pytest.mark.parametrize("mask", [0, -1, 0x7, 0x1F, 0xFF, 0xF1, 0x1_E000_0000, 0xF_0000_0000])
def test_a_mask_is_four_adjacent_bits(mask: int) -> None:
    assert not can_hand_back(mask)
    for refuse in (demand_hand_back, lambda mask: handed_back(mask, RejectWith.TCP_RESET)):
        with pytest.raises(ValueError, match="expected four adjacent bits of 32"):
            refuse(mask)

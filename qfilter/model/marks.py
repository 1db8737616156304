"""The bits of a packet's mark in which a reject goes back to the kernel, where REJECT rules wait for it."""

from __future__ import annotations

from qfilter.model.verdict import RejectWith

MARK_LIMIT = 1 << 32


def can_hand_back(mask: int) -> bool:
    """Whether a mask is four adjacent bits of 32: one value for every answer, and 0 for none."""
    return 0 < mask < MARK_LIMIT and mask // (mask & -mask) == 0xF


def demand_hand_back(mask: int) -> None:
    """Raises ValueError for a mask that cannot."""
    if not can_hand_back(mask):
        raise ValueError(f"mark mask {mask:#x}: expected four adjacent bits of 32")


def handed_back(mask: int, answer: RejectWith) -> int:
    """What stands in the mask's bits for an answer. Raises ValueError for a mask that has no place for it."""
    demand_hand_back(mask)
    return answer.code * (mask & -mask)

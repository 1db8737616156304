"""Packed ranges are the ranges that went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.model.match import Addresses
from qfilter.model.spans import Pair, Spans
from qfilter.policy.values import merge_ranges

SOME: tuple[Pair, ...] = ((0, 0), (2, 5), (0xFFFF_FFFE, 0xFFFF_FFFF))
PACKED = bytes.fromhex("00000000 00000000 00000002 00000005 fffffffe ffffffff")


def test_first_and_last_numbers_big_endian() -> None:
    spans = Spans.of(SOME, 4)
    assert (spans.packed, len(spans), tuple(spans)) == (PACKED, 3, SOME)
    assert Spans(PACKED, 4) == spans
    assert Spans.of(spans, 4) is spans
    assert Spans.of([(1, 1 << 127)], 16).packed == bytes(15) + b"\1\x80" + bytes(15)


@pytest.mark.parametrize("index", [0, 1, 2, -1, -3])
def test_items(index: int) -> None:
    assert Spans.of(SOME, 4)[index] == SOME[index]


@pytest.mark.parametrize("index", [3, -4])
def test_no_items(index: int) -> None:
    with pytest.raises(IndexError):
        Spans.of(SOME, 4)[index]


@pytest.mark.parametrize("part", [slice(None), slice(1), slice(-1, None), slice(None, None, -1), slice(5, 9)])
def test_slices(part: slice) -> None:
    assert Spans.of(SOME, 4)[part] == SOME[part]


def test_the_same_numbers_are_equal_and_hash_alike() -> None:
    one, other = Addresses(v4=SOME, v6=SOME), Addresses(v4=list(SOME), v6=iter(SOME))
    assert (one, hash(one)) == (other, hash(other))
    assert one != Addresses(v4=SOME)
    assert one.v4 != one.v6
    assert Addresses() == Addresses((), Spans.of((), 16))
    assert not Addresses().v4


def test_what_people_see_is_short() -> None:
    assert repr(Spans.of(SOME, 4)) == "<0x0-0x0, 0x2-0x5, 0xfffffffe-0xffffffff>"
    assert repr(Spans.of([(number, number) for number in range(0, 99, 3)], 4)).endswith("0x15-0x15, ...>")


_NUMBERS = st.integers(0, (1 << 128) - 1)


@given(st.lists(st.tuples(_NUMBERS, _NUMBERS).map(lambda pair: (min(pair), max(pair)))))
def test_there_and_back(ranges: list[tuple[int, int]]) -> None:
    pairs = merge_ranges(ranges)
    assert tuple(Spans.of(pairs, 16)) == pairs

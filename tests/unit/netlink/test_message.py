"""Netlink's wire format, byte for byte and there and back."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.netlink.message import (
    ACK,
    ERROR,
    HEADER,
    REQUEST,
    Message,
    decode_attributes,
    decode_error,
    decode_messages,
    encode_attributes,
    encode_message,
)

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the rows are written for little-endian machines")

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
messages = st.builds(Message, type=u16, flags=u16, sequence=u32, port_id=u32, body=st.binary(max_size=99))
attributes = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=99)))


@little_endian
def test_a_header_is_length_type_flags_sequence_port() -> None:
    message = Message(type=0x0302, flags=REQUEST | ACK, sequence=7, port_id=9, body=b"body")
    assert encode_message(message).hex(" ", 4) == "14000000 02030500 07000000 09000000 626f6479"


@given(st.lists(messages, max_size=5))
def test_messages_come_back(sent: list[Message]) -> None:
    padded = b"".join(data + bytes(-len(data) % 4) for data in map(encode_message, sent))
    assert list(decode_messages(padded)) == sent


@little_endian
def test_padding_is_not_part_of_an_attributes_length() -> None:
    assert encode_attributes([(3, b"abcde"), (4, b"")]).hex(" ", 4) == "09000300 61626364 65000000 04000400"


@given(attributes)
def test_attributes_come_back(sent: list[tuple[int, bytes]]) -> None:
    encoded = encode_attributes(sent)
    assert len(encoded) % 4 == 0
    assert list(decode_attributes(encoded)) == sent


@given(attributes)
def test_padding_after_the_last_attribute_may_be_missing(sent: list[tuple[int, bytes]]) -> None:
    last = (1, b"odd")
    assert list(decode_attributes(encode_attributes([*sent, last])[:-1])) == [*sent, last]


def test_the_flags_of_an_attributes_type_are_not_its_type() -> None:
    nested, network_order = 0x8000, 0x4000
    encoded = encode_attributes([(nested | 19, b""), (network_order | 19, b"")])
    assert list(decode_attributes(encoded)) == [(19, b""), (19, b"")]


def test_an_attribute_that_its_length_cannot_say_is_refused() -> None:
    assert len(encode_attributes([(1, bytes(65_531))])) == 65_536
    with pytest.raises(ValueError, match="attribute 1 of 65532 bytes: expected at most 65531"):
        encode_attributes([(1, bytes(65_532))])


@pytest.mark.parametrize(
    ("length", "what"),
    [
        (0, "netlink message length 0: expected 16 to 20"),
        (15, "netlink message length 15: expected 16 to 20"),
        (21, "netlink message length 21: expected 16 to 20"),
        (0xFFFF_FFFF, "netlink message length 4294967295: expected 16 to 20"),
    ],
)
def test_a_message_whose_length_lies(length: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        list(decode_messages(HEADER.pack(length, 1, 0, 0, 0) + b"body"))


def test_what_came_before_a_cut_message_is_not_lost() -> None:
    whole = Message(type=1, body=b"whole.")
    data = encode_message(whole) + b"\0\0" + encode_message(Message(type=2))[:9]
    read = decode_messages(data)
    assert next(read) == whole
    with pytest.raises(ValueError, match="9 bytes: expected a netlink header of 16"):
        next(read)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for decode in (decode_messages, decode_attributes):
        try:
            found = list(decode(data))
        except ValueError:
            continue
        assert len(found) <= len(data)


@pytest.mark.parametrize(("number", "said"), [(0, 0), (-2, 2), (-105, 105)])
def test_an_answer_says_its_errno(number: int, said: int) -> None:
    body = number.to_bytes(4, sys.byteorder, signed=True) + bytes(16)
    assert decode_error(Message(type=ERROR, body=body)) == said


@pytest.mark.parametrize("message", [Message(type=ERROR, body=b"\0\0\0"), Message(type=16, body=bytes(20))])
def test_what_is_no_answer_is_refused(message: Message) -> None:
    with pytest.raises(ValueError, match="expected an error answer"):
        decode_error(message)

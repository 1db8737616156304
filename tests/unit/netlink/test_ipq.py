"""The messages of ip_queue, byte for byte, and against C's own layout of the structures."""

from __future__ import annotations

import ctypes
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.netlink.ipq import PACKET, WORD, cut_packet_id, decode_packet, encode_mode, encode_verdict
from qfilter.netlink.message import Message, encode_message
from qfilter.netlink.nfnetlink import CopyMode, Outcome

little = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes below are of a little-endian machine")


NAMES = "65746830000000000000000000000000 776c616e300000000000000000000000"
LINK = "0800 0100 06 02005e0053010000"


def structures(word: int) -> tuple[type[ctypes.Structure], type[ctypes.Structure], type[ctypes.Structure]]:
    """ipq_packet_msg, ipq_verdict_msg and ipq_mode_msg as a C compiler of that word size lays them out."""
    unsigned = ctypes.c_uint32 if word == 4 else ctypes.c_uint64
    signed = ctypes.c_int32 if word == 4 else ctypes.c_int64

    class PacketMsg(ctypes.Structure):
        _fields_ = (
            ("packet_id", unsigned),
            ("mark", unsigned),
            ("timestamp_sec", signed),
            ("timestamp_usec", signed),
            ("hook", ctypes.c_uint),
            ("indev_name", ctypes.c_char * 16),
            ("outdev_name", ctypes.c_char * 16),
            ("hw_protocol", ctypes.c_uint8 * 2),
            ("hw_type", ctypes.c_ushort),
            ("hw_addrlen", ctypes.c_ubyte),
            ("hw_addr", ctypes.c_ubyte * 8),
            ("data_len", unsigned),
        )

    class VerdictMsg(ctypes.Structure):
        _fields_ = (("value", ctypes.c_uint), ("id", unsigned), ("data_len", unsigned))

    class ModeMsg(ctypes.Structure):
        _fields_ = (("value", ctypes.c_ubyte), ("range", unsigned))

    return PacketMsg, VerdictMsg, ModeMsg


def test_the_word_is_this_machine_s() -> None:
    assert ctypes.sizeof(ctypes.c_ulong) == ctypes.sizeof(ctypes.c_size_t) == WORD


@pytest.mark.parametrize(("word", "sizes"), [(4, (72, 12, 8)), (8, (96, 24, 16))])
def test_c_agrees_on_the_sizes(word: int, sizes: tuple[int, int, int]) -> None:
    packet, verdict, mode = structures(word)
    assert (ctypes.sizeof(packet), ctypes.sizeof(verdict), ctypes.sizeof(mode)) == sizes
    # the kernel takes no message shorter than the union of mode and verdict
    assert len(encode_mode(CopyMode.META, word=word)) == len(encode_verdict(1, Outcome.DROP, word=word)) == sizes[1]


@little
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (encode_mode(CopyMode.NONE, word=8), "00 00000000000000 0000000000000000 0000000000000000"),
        (encode_mode(CopyMode.META, word=8), "01 00000000000000 0000000000000000 0000000000000000"),
        (encode_mode(CopyMode.PACKET, 65_535, word=8), "02 00000000000000 ffff000000000000 0000000000000000"),
        (encode_mode(CopyMode.PACKET, 128, word=4), "02 000000 80000000 00000000"),
        (
            encode_verdict(0xFFFF_8800_1234_5678, Outcome.ACCEPT, word=8),
            "01000000 00000000 785634120088ffff 0000000000000000",
        ),
        (encode_verdict(0xC012_3456, Outcome.DROP, word=4), "00000000 563412c0 00000000"),
        (
            encode_verdict(7, Outcome.ACCEPT, b"E" * 21, word=8),
            "01000000 00000000 0700000000000000 1500000000000000" + "45" * 21,
        ),
        (encode_verdict(7, Outcome.ACCEPT, b"E" * 20, word=4), "01000000 07000000 14000000" + "45" * 20),
    ],
)
def test_requests(body: bytes, expected: str) -> None:
    assert body.hex() == expected.replace(" ", "")


@pytest.mark.parametrize("length", [1, 19, 65_536])
def test_a_payload_that_the_kernel_would_ignore_or_refuse(length: int) -> None:
    with pytest.raises(ValueError, match=f"payload of {length} bytes: expected 20 to 65535"):
        encode_verdict(1, Outcome.ACCEPT, bytes(length))


@little
@pytest.mark.parametrize(
    ("word", "numbers", "padding_and_length"),
    [
        (
            8,
            "785634120088ffff 2a00000000000000 e1f5052a00000000 20a1070000000000 02000000",
            "00000000000000 0300000000000000",
        ),
        (4, "78563412 2a000000 e1f5052a 20a10700 02000000", "000000 03000000"),
    ],
)
def test_a_packet(word: int, numbers: str, padding_and_length: str) -> None:
    body = bytes.fromhex(f"{numbers} {NAMES} {LINK} {padding_and_length} 450000")
    packet = decode_packet(Message(type=PACKET, body=body), word=word)
    assert packet.id == (0xFFFF_8800_1234_5678 if word == 8 else 0x1234_5678)
    assert (packet.mark, packet.hook, packet.ethertype, packet.hardware_type) == (0x2A, 2, 0x0800, 1)
    assert (packet.indev, packet.outdev) == (b"eth0", b"wlan0")
    assert packet.hwaddr == bytes.fromhex("02005e005301")
    assert packet.timestamp == 0x2A05_F5E1 + 0.5
    assert packet.payload == b"\x45\0\0"


@given(
    word=st.sampled_from([4, 8]),
    numbers=st.tuples(*[st.integers(0, 2**31 - 1)] * 5),
    names=st.tuples(*[st.text("abcdefgh.0123", max_size=15)] * 2),
    address=st.binary(max_size=8),
    payload=st.binary(max_size=64),
)
def test_c_agrees_on_every_member(
    word: int, numbers: tuple[int, ...], names: tuple[str, ...], address: bytes, payload: bytes
) -> None:
    packet_id, mark, seconds, hook, hardware = numbers
    kind, _, _ = structures(word)
    written = kind()
    written.packet_id, written.mark, written.timestamp_sec, written.hook = packet_id, mark, seconds, hook
    written.indev_name, written.outdev_name = names[0].encode(), names[1].encode()
    written.hw_protocol[:] = [0x86, 0xDD]
    written.hw_type, written.hw_addrlen = hardware & 0xFFFF, len(address)
    written.hw_addr[: len(address)] = list(address)
    written.data_len = len(payload)
    read = decode_packet(Message(type=PACKET, body=bytes(written) + payload), word=word)
    assert (read.id, read.mark, read.timestamp or 0, read.hook) == (packet_id, mark, seconds, hook)
    assert (read.indev.decode(), read.outdev.decode()) == names
    assert (read.ethertype, read.hardware_type, read.hwaddr or b"") == (0x86DD, hardware & 0xFFFF, address)
    assert read.payload == payload


@given(id=st.integers(0, 2**32 - 1), word=st.sampled_from([4, 8]), payload=st.binary(min_size=20, max_size=40))
def test_c_reads_the_verdict(id: int, word: int, payload: bytes) -> None:
    _, kind, _ = structures(word)
    body = encode_verdict(id, Outcome.ACCEPT, payload, word=word)
    read = kind.from_buffer_copy(body)
    assert (read.value, read.id, read.data_len) == (1, id, len(payload))
    assert body[ctypes.sizeof(kind) :] == payload


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(type=18, body=bytes(96)), "netlink message type 18 of 96 bytes: expected a packet"),
        (Message(type=PACKET, body=bytes(95)), "netlink message type 19 of 95 bytes: expected a packet"),
        (
            Message(type=PACKET, body=bytes(88) + (4).to_bytes(8, sys.byteorder) + b"abc"),
            "packet length 4: expected at most the 3 bytes of its message",
        ),
    ],
)
def test_what_is_no_packet(message: Message, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_packet(message, word=8)


@pytest.mark.parametrize("word", [4, 8])
def test_the_id_of_a_cut_packet(word: int) -> None:
    body = (77).to_bytes(word, sys.byteorder)
    datagram = encode_message(Message(type=PACKET, body=body))
    assert cut_packet_id(datagram, word=word) == 77
    assert cut_packet_id(datagram[:-1], word=word) is None
    assert cut_packet_id(encode_message(Message(type=18, body=body)), word=word) is None

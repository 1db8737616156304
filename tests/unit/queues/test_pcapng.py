"""The pcapng format: sections, interfaces, clocks, options, blocks to skip, blocks that lie."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.errors import CaptureError
from qfilter.queues.captures import CapturedPacket, read_capture
from tests.unit.queues.capture_files import ECHO6, SYN, block, enhanced, interface, option, section, simple

RAW = 101
NAME, TSRESOL, TSOFFSET, FLAGS = 2, 9, 14, 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pcapng"


def packets(path: Path, data: bytes) -> list[CapturedPacket]:
    path.write_bytes(data)
    return list(read_capture(path))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(path: Path, order: str) -> None:
    data = (
        section(order=order)
        + interface(RAW, order=order, options=option(NAME, b"eth0", order=order))
        + enhanced(SYN[:21], order=order, original=40, options=option(FLAGS, struct.pack(order + "I", 2), order=order))
        + simple(ECHO6, order=order)
    )
    assert packets(path, data) == [
        CapturedPacket(n=1, data=SYN[:21], wire_length=40, timestamp_ns=1_000_002_000, interface="eth0", outbound=True),
        CapturedPacket(n=2, data=ECHO6, wire_length=48, timestamp_ns=None, interface="eth0"),
    ]


def test_each_section_has_its_own_order_and_interfaces(path: Path) -> None:
    data = section() + interface(RAW, options=option(NAME, b"a")) + enhanced(SYN)
    data += section(order=">") + interface(RAW, order=">", options=option(NAME, b"b\0", order=">"))
    data += enhanced(ECHO6, order=">")
    assert [(packet.n, packet.interface, packet.data) for packet in packets(path, data)] == [
        (1, "a", SYN),
        (2, "b", ECHO6),
    ]


def test_a_packet_names_its_interface(path: Path) -> None:
    data = section() + interface(1, options=option(NAME, b"lan")) + interface(RAW, options=option(NAME, b"wan"))
    data += enhanced(SYN, number=1) + enhanced(bytes(12) + b"\x08\x00" + SYN, number=0)
    assert [(packet.interface, packet.data) for packet in packets(path, data)] == [("wan", SYN), ("lan", SYN)]


@pytest.mark.parametrize(
    ("options", "stamp", "timestamp_ns"),
    [
        (b"", 1_000_002, 1_000_002_000),
        (option(TSRESOL, b"\x06"), 1_000_002, 1_000_002_000),
        (option(TSRESOL, b"\x09"), 1 << 33, 1 << 33),
        (option(TSRESOL, b"\x00"), 7, 7_000_000_000),
        (option(TSRESOL, b"\x0c"), 1_999, 1),
        (option(TSRESOL, b"\x8a"), 1_536, 1_500_000_000),
        (option(TSRESOL, b"\x7f"), 1, 0),
        (option(TSOFFSET, struct.pack("<q", 100)), 1, 100_000_001_000),
        # before the epoch, in the last second of the year 9999, and after it
        (option(TSOFFSET, struct.pack("<q", -2)), 1_999_999, None),
        (option(TSRESOL, b"\x00"), 253_402_300_799, 253_402_300_799_000_000_000),
        (option(TSRESOL, b"\x00"), 253_402_300_800, None),
        (option(TSOFFSET, struct.pack("<q", -1)), 2_000_000, 1_000_000_000),
    ],
)
def test_clocks(path: Path, options: bytes, stamp: int, timestamp_ns: int | None) -> None:
    data = section() + interface(RAW, options=options) + enhanced(SYN, stamp=stamp)
    assert [packet.timestamp_ns for packet in packets(path, data)] == [timestamp_ns]


@pytest.mark.parametrize(("flags", "outbound"), [(0, None), (1, False), (2, True), (3, None), (0xFFFF_FFF2, True)])
def test_direction(path: Path, flags: int, outbound: bool | None) -> None:
    options = option(1, b"a comment") + option(FLAGS, struct.pack("<I", flags)) + option(0, b"")
    data = section() + interface(RAW) + enhanced(SYN, options=options)
    assert [packet.outbound for packet in packets(path, data)] == [outbound]


def test_other_blocks_are_skipped(path: Path) -> None:
    names, statistics, custom = block(4, bytes(8)), block(5, bytes(12)), block(0x8000_0BAD, bytes(300_000))
    data = section(options=option(4, b"dumpcap")) + names + interface(RAW) + statistics + enhanced(SYN) + custom
    assert [packet.n for packet in packets(path, data + enhanced(SYN))] == [1, 2]


def test_a_simple_packet_is_as_long_as_its_interface_allows(path: Path) -> None:
    data = section() + interface(RAW, snap=24) + simple(SYN[:24], original=40)
    assert [(packet.data, packet.wire_length) for packet in packets(path, data)] == [(SYN[:24], 40)]


def lying(body: bytes, length: int) -> bytes:
    """An enhanced packet block whose two lengths are `length`."""
    return struct.pack("<II", 6, length) + body + struct.pack("<I", length)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (section(major=2), "byte 0: pcapng version 2.0: expected 1"),
        (section()[:8] + bytes(8), "byte 0: byte-order magic 00000000: expected 1a2b3c4d or 4d3c2b1a"),
        (section() + enhanced(SYN), "byte 28: interface 0: expected one of the section's 0"),
        (section() + interface(RAW) + enhanced(SYN, number=1), "byte 48: interface 1: expected one of the section's 1"),
        (section() + simple(SYN), "byte 28: a simple packet block: expected an interface before it"),
        (section() + lying(b"", 8), "byte 28: block length 8: expected a multiple of 4 from 12 on"),
        (section() + lying(bytes(5), 17), "byte 28: block length 17: expected a multiple of 4 from 12 on"),
        (section() + lying(b"", 0xFFFF_FFFC), "byte 28: block length 4294967292: expected at most 524288"),
        (
            section() + block(0x0BAD, b"")[:4] + struct.pack("<I", 0xFFFF_FFFC) + bytes(64),
            "byte 36: the file ends after 64 bytes: expected 65536 bytes of a block",
        ),
        (
            section() + interface(RAW)[:-4] + bytes(4),
            "byte 28: second block length 0: expected 20 as the first",
        ),
        (
            section() + interface(RAW) + block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + SYN),
            "byte 48: a packet of 100 bytes: expected at most the 40 left in its block",
        ),
        (
            section() + interface(RAW) + block(6, struct.pack("<IIIII", 0, 0, 0, 1 << 31, 99) + SYN),
            "byte 48: captured length 2147483648: expected at most 262144",
        ),
        (
            section() + interface(RAW) + block(6, bytes(16)),
            "byte 48: a header of 20 bytes: expected at most the 16 left in its block",
        ),
        (
            section() + interface(RAW) + enhanced(SYN, options=struct.pack("<HH", 1, 9) + bytes(4)),
            "byte 48: a option of 12 bytes: expected at most the 4 left in its block",
        ),
    ],
)
def test_damage(path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CaptureError) as caught:
        packets(path, data)
    assert str(caught.value) == f"{path}: {message}"


FRAMES = st.lists(
    st.tuples(
        st.binary(max_size=70),
        st.integers(0, 1 << 20),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2),
        st.sampled_from([None, False, True]),
    ),
    max_size=6,
)


@given(frames=FRAMES, names=st.lists(st.text(max_size=15), min_size=3, max_size=3), order=st.sampled_from("<>"))
def test_what_was_written_is_read(
    frames: list[tuple[bytes, int, int, int, bool | None]],
    names: list[str],
    order: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    direction = {None: 0, False: 1, True: 2}
    data = section(order=order)
    for name in names:
        options = option(NAME, name.encode(), order=order) + option(TSRESOL, b"\x09", order=order)
        data += interface(RAW, order=order, options=options)
    for frame, cut, stamp, number, outbound in frames:
        flags = option(FLAGS, struct.pack(order + "I", direction[outbound]), order=order)
        data += enhanced(frame, order=order, number=number, stamp=stamp, original=len(frame) + cut, options=flags)
    assert packets(tmp_path_factory.mktemp("pcapng") / "a.pcapng", data) == [
        CapturedPacket(
            n=n,
            data=frame,
            wire_length=len(frame) + cut,
            timestamp_ns=stamp,
            interface=names[number].rstrip("\0") or None,
            outbound=outbound,
        )
        for n, (frame, cut, stamp, number, outbound) in enumerate(frames, 1)
    ]

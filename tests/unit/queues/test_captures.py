"""What comes out of a capture, and what a damaged one says."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.errors import CaptureError
from qfilter.queues.captures import CapturedPacket, packet_at, read_capture
from tests.unit.queues.capture_files import (
    ARP,
    ECHO6,
    ETHERNET,
    SYN,
    block,
    enhanced,
    interface,
    option,
    pcap_header,
    pcap_record,
    section,
    simple,
)

CORPUS = Path(__file__).parents[4] / "shared/corpus/tcpdump-raw.pcap"
RAW = 101
MIXED = (
    pcap_header(1)
    + pcap_record(ETHERNET + b"\x08\x00" + SYN, at=(1, 2))
    + pcap_record(ETHERNET + b"\x08\x06" + ARP, at=(2, 0))
    + pcap_record(ETHERNET + b"\x86\xdd" + ECHO6, at=(3, 0))
)
"""IPv4, ARP and IPv6 on Ethernet; each record is 16 + 14 bytes and the packet."""
SECTIONS = section() + interface(RAW) + enhanced(SYN) + simple(ECHO6) + section() + interface(RAW) + enhanced(SYN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.pcap"


def read(path: Path, data: bytes) -> tuple[list[CapturedPacket], str]:
    """The packets before the end, and the error that ended them; paths in it are `a.pcap`."""
    path.write_bytes(data)
    packets = []
    try:
        for packet in read_capture(path):
            packets.append(packet)  # noqa: PERF402 the packets before an exception are wanted
    except CaptureError as error:
        return packets, str(error).replace(str(path), "a.pcap")
    return packets, ""


def test_frames_without_ip_have_numbers_too(path: Path) -> None:
    packets, error = read(path, MIXED)
    assert error == ""
    assert packets == [
        CapturedPacket(n=1, data=SYN, wire_length=40, timestamp_ns=1_000_002_000),
        CapturedPacket(n=2, data=None, wire_length=42, timestamp_ns=2_000_000_000),
        CapturedPacket(n=3, data=ECHO6, wire_length=48, timestamp_ns=3_000_000_000),
    ]


@pytest.mark.parametrize("data", [MIXED, SECTIONS], ids=["pcap", "pcapng"])
def test_gzip_is_seen_by_its_first_bytes(path: Path, data: bytes) -> None:
    plain, zipped = read(path, data), read(path, gzip.compress(data))
    assert zipped == plain
    assert len(plain[0]) == 3


def test_a_packet_by_its_number(path: Path) -> None:
    packets, _ = read(path, MIXED)
    assert [packet_at(path, n) for n in (1, 2, 3)] == packets


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "packet 0: expected 1 or more"),
        (-1, "packet -1: expected 1 or more"),
        (4, "packet 4: expected at most 3, the number of packets in the capture"),
    ],
)
def test_a_number_outside_the_capture(path: Path, n: int, message: str) -> None:
    path.write_bytes(MIXED)
    with pytest.raises(CaptureError, match=message):
        packet_at(path, n)


def test_a_packet_before_the_damage_has_its_number(path: Path) -> None:
    path.write_bytes(MIXED[:-1])
    assert packet_at(path, 2).n == 2
    with pytest.raises(CaptureError, match="the file ends after 61 bytes: expected 62 bytes of a packet"):
        packet_at(path, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: the file ends after 0 bytes: expected 4 bytes of a magic number of pcap, pcapng or gzip"),
        (
            b"\xd4\xc3",
            "byte 0: the file ends after 2 bytes: expected 4 bytes of a magic number of pcap, pcapng or gzip",
        ),
        (b"version: 1\n", "byte 0: magic number 76657273: expected one of pcap, pcapng or gzip"),
        (
            pcap_header(105) + pcap_record(SYN),
            "byte 24: link type 105: expected one of 0, 1, 12, 101, 108, 113, 228, 229, 276",
        ),
        (
            gzip.compress(pcap_header(RAW) + pcap_record(SYN)[:-1]),
            "byte 40 of the uncompressed data: the file ends after 39 bytes: expected 40 bytes of a packet",
        ),
        (
            gzip.compress(pcap_header(RAW))[:-8],
            (
                "byte 24 of the uncompressed data: Compressed file ended before the end-of-stream marker was reached: "
                "expected gzip data"
            ),
        ),
    ],
)
def test_what_no_capture_is(path: Path, data: bytes, message: str) -> None:
    assert read(path, data) == ([], f"a.pcap: {message}")


def test_a_gzip_checksum_that_does_not_hold_comes_after_the_packets(path: Path) -> None:
    zipped = bytearray(gzip.compress(MIXED))
    zipped[-8] ^= 1
    packets, error = read(path, bytes(zipped))
    assert [packet.n for packet in packets] == [1, 2, 3]
    assert error.startswith(f"a.pcap: byte {len(MIXED)} of the uncompressed data: CRC check failed")


@pytest.mark.parametrize(("name", "message"), [("absent", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CaptureError, match=f"{tmp_path / name}: {message}"):
        list(read_capture(tmp_path / name))


@pytest.mark.parametrize("data", [MIXED, SECTIONS, gzip.compress(SECTIONS)], ids=["pcap", "pcapng", "gzip"])
def test_a_capture_cut_anywhere_yields_the_packets_before(path: Path, data: bytes) -> None:
    whole, _ = read(path, data)
    ends_well = []
    for length in range(len(data)):
        packets, error = read(path, data[:length])
        assert packets == whole[: len(packets)]
        if not error:
            ends_well.append(length)
    if data == MIXED:
        assert ends_well == [24, 24 + 70, 24 + 70 + 58]
    elif data == SECTIONS:
        parts = [28, 20, 72, 64, 28, 20]
        assert ends_well == [sum(parts[:n]) for n in range(1, len(parts) + 1)]
    else:
        assert ends_well == []


HEADS = [b"", pcap_header(RAW), section(), section() + interface(1), SECTIONS, MIXED, gzip.compress(MIXED)[:30]]


@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=200))
def test_any_bytes_give_packets_or_a_capture_error(
    head: bytes, tail: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.pcap"
    packets, _ = read(path, head + tail)
    assert [packet.n for packet in packets] == list(range(1, len(packets) + 1))
    assert all(packet.wire_length >= len(packet.data or b"") for packet in packets)


@given(data=st.data(), original=st.sampled_from([MIXED, SECTIONS]))
def test_a_changed_byte_gives_packets_or_a_capture_error(
    data: st.DataObject, original: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[at] ^= data.draw(st.integers(1, 255))
    packets, _ = read(tmp_path_factory.mktemp("fuzz") / "a.pcap", bytes(changed))
    assert all(packet.wire_length >= len(packet.data or b"") for packet in packets)


@pytest.mark.parametrize(
    "bomb",
    [
        section() + interface(RAW) + block(0x0BAD, bytes(64 << 20)),
        pcap_header(RAW) + pcap_record(bytes(250_000)) * 200,
        section() + interface(RAW, options=option(2, b"x" * 65_000)) * 500,
    ],
    ids=["one long unknown block", "many packets", "long names of interfaces"],
)
def test_memory_does_not_grow_with_the_file(path: Path, bomb: bytes) -> None:
    path.write_bytes(gzip.compress(bomb, 1))
    tracemalloc.start()
    count = sum(1 for _ in read_capture(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count in (0, 200)
    assert peak < 4 << 20


@pytest.mark.skipif(not CORPUS.exists(), reason=f"no corpus at {CORPUS}")
def test_the_corpus_has_the_packets_that_its_readme_gives() -> None:
    packets = list(read_capture(CORPUS))
    assert [packet.n for packet in packets] == list(range(1, 5_453))
    assert sum((packet.data or b"\0")[0] >> 4 == 6 for packet in packets) == 832


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")
@pytest.mark.parametrize(
    "data",
    [
        MIXED,
        section() + interface(1) + enhanced(ETHERNET + b"\x08\x06" + ARP) + block(5, bytes(12)) + enhanced(ARP),
        section() + interface(RAW) + enhanced(SYN) + simple(ECHO6) + section() + interface(12) + enhanced(SYN),
    ],
    ids=["pcap", "pcapng", "sections"],
)
def test_tcpdump_counts_the_same_packets(path: Path, data: bytes) -> None:
    packets, _ = read(path, data)
    command = ["tcpdump", "-nnq", "--number", "-r", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in printed.splitlines() if not line.startswith("\t")]  # hex of what it does not know
    assert [int(line.split()[0]) for line in lines] == [packet.n for packet in packets]

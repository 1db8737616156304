"""The pcap format: byte orders, clocks, lengths that lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.errors import CaptureError
from qfilter.queues.captures import CapturedPacket, read_capture
from tests.unit.queues.capture_files import SYN, pcap_header, pcap_record

RAW = 101


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("nano", "timestamp_ns"), [(False, 1_000_002_000), (True, 1_000_000_002)])
def test_byte_order_and_clock(tmp_path: Path, order: str, nano: bool, timestamp_ns: int) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_header(RAW, order=order, nano=nano) + pcap_record(SYN[:24], order=order, original=40))
    assert list(read_capture(path)) == [
        CapturedPacket(n=1, data=SYN[:24], wire_length=40, timestamp_ns=timestamp_ns),
    ]


def test_flags_above_the_link_type_do_not_change_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_header(RAW | 0x5400_0000) + pcap_record(SYN))
    assert [packet.data for packet in read_capture(path)] == [SYN]


def test_an_original_length_below_the_captured_one_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap_header(RAW) + pcap_record(SYN, original=3))
    assert [packet.wire_length for packet in read_capture(path)] == [40]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pcap_header(RAW, version=(2, 3)), "byte 4: pcap version 2.3: expected 2.4"),
        (pcap_header(RAW)[:9], "byte 4: the file ends after 5 bytes: expected 20 bytes of the file header"),
        (
            pcap_header(RAW) + pcap_record(b"")[:8] + (262_145).to_bytes(4, "little") + bytes(4),
            "byte 24: captured length 262145: expected at most 262144",
        ),
        (
            pcap_header(RAW) + pcap_record(b"")[:8] + b"\xff\xff\xff\xff" + bytes(4),
            "byte 24: captured length 4294967295: expected at most 262144",
        ),
        (pcap_header(RAW) + bytes(15), "byte 24: the file ends after 15 bytes: expected 16 bytes of a record header"),
    ],
)
def test_damage(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    with pytest.raises(CaptureError) as caught:
        list(read_capture(path))
    assert str(caught.value) == f"{path}: {message}"


RECORDS = st.lists(
    st.tuples(st.binary(max_size=90), st.integers(0, 1 << 20), st.integers(0, 2**32 - 1), st.integers(0, 999_999)),
    max_size=6,
)


@given(records=RECORDS, order=st.sampled_from("<>"))
def test_what_was_written_is_read(
    records: list[tuple[bytes, int, int, int]], order: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pcap") / "a.pcap"
    path.write_bytes(
        pcap_header(RAW, order=order)
        + b"".join(
            pcap_record(data, order=order, original=len(data) + cut, at=(seconds, micro))
            for data, cut, seconds, micro in records
        )
    )
    assert list(read_capture(path)) == [
        CapturedPacket(n=n, data=data, wire_length=len(data) + cut, timestamp_ns=(s * 1_000_000 + micro) * 1_000)
        for n, (data, cut, s, micro) in enumerate(records, 1)
    ]

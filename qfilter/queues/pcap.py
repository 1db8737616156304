"""The pcap file format (draft-ietf-opsawg-pcap): one link type for the file, records with time and two lengths."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from qfilter.queues.capture_source import MAX_FRAME, Frame, Source

MAGICS: dict[bytes, tuple[str, int]] = {
    bytes.fromhex("a1b2c3d4"): (">", 1_000),
    bytes.fromhex("d4c3b2a1"): ("<", 1_000),
    bytes.fromhex("a1b23c4d"): (">", 1),
    bytes.fromhex("4d3cb2a1"): ("<", 1),
}
"""What a file begins with: its byte order, and the nanoseconds in a unit of a record's fraction of a second."""

_VERSION = (2, 4)
_LINK_TYPE_MASK = 0xFFFF  # above it: whether frames end with a checksum, and how long it is


def read_pcap(source: Source, magic: bytes) -> Iterator[Frame]:
    """The records after the magic number that nobody took as a batch. CaptureError at the first damaged one."""
    order, unit = MAGICS[magic]
    start = source.offset
    header = struct.Struct(order + "HHiIII")
    major, minor, _, _, _, network = header.unpack(source.read(header.size, "the file header"))
    if (major, minor) != _VERSION:
        source.fail(start, f"pcap version {major}.{minor}", "2.4")
    record = struct.Struct(order + "IIII")
    take = source.batches and partial(
        source.batches.pcap, big=order == ">", unit=unit, link_type=network & _LINK_TYPE_MASK
    )
    while True:
        if take:
            source.pass_on(take)
        start = source.offset
        fields = source.read_or_end(record.size, "a record header")
        if fields is None:
            return
        seconds, fraction, captured, original = record.unpack(fields)
        if captured > MAX_FRAME:
            source.fail(start, f"captured length {captured}", f"at most {MAX_FRAME}")
        yield Frame(
            offset=start,
            link_type=network & _LINK_TYPE_MASK,
            data=source.read(captured, "a packet"),
            wire_length=max(captured, original),
            timestamp_ns=seconds * 1_000_000_000 + fraction * unit,
        )

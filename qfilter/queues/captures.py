"""Captures as a source of packets: pcap and pcapng, each also inside gzip, told apart by their first bytes.

A reader of our own, because scapy's dissect every frame and forget how long a cut one was. It reads forward once and
holds one block of bytes and one record at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path

from qfilter.errors import CaptureError
from qfilter.queues.capture_source import Batches, Frame, Source, open_source
from qfilter.queues.link_types import LINK_TYPES, network_length
from qfilter.queues.pcap import MAGICS, read_pcap
from qfilter.queues.pcapng import MAGIC, read_pcapng


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedPacket:
    """One frame of a capture, without its link header."""

    n: int
    """Its number in the capture, from 1, as tcpdump and Wireshark count: frames without IP have numbers too."""
    data: bytes | None
    """From the IP header on, as far as it was captured; None for a frame that carries no IP, such as ARP."""
    wire_length: int
    """Bytes from the IP header on that were on the wire, at least `len(data)`; the whole frame's without IP."""
    timestamp_ns: int | None
    """Nanoseconds since the epoch, before the year 10000; None where the capture has no such time."""
    interface: str | None = None
    """The interface's name, where a pcapng has one."""
    outbound: bool | None = None
    """Whether the frame left the machine; None where the capture does not say."""


def read_capture(path: str | PathLike[str], batches: Batches | None = None) -> Iterator[CapturedPacket]:
    """Every frame of a capture, in its order, but for those that `batches` took before the next one is asked for.

    A damaged capture yields the frames before the damage and then raises CaptureError with the path, the byte and what
    was expected there. CaptureError also for a file that cannot be read, and for a link type without a reader.
    """
    with open_source(Path(path), batches) as source:
        for frame in _frames(source):
            source.frames += 1
            yield _packet(source, source.frames, frame)


def packet_at(path: str | PathLike[str], n: int) -> CapturedPacket:
    """The n-th frame of a capture, from 1. CaptureError when there is none, or the damage comes before it."""
    if n < 1:
        raise CaptureError(f"{path}: packet {n}: expected 1 or more")
    last = 0
    for packet in islice(read_capture(path), n):
        last = packet.n
        if last == n:
            return packet
    raise CaptureError(f"{path}: packet {n}: expected at most {last}, the number of packets in the capture")


def _frames(source: Source) -> Iterator[Frame]:
    magic = source.read(4, "a magic number of pcap, pcapng or gzip")
    if magic in MAGICS:
        return read_pcap(source, magic)
    if magic != MAGIC:
        source.fail(0, f"magic number {magic.hex()}", "one of pcap, pcapng or gzip")
    return read_pcapng(source)


def _packet(source: Source, n: int, frame: Frame) -> CapturedPacket:
    read_link = LINK_TYPES.get(frame.link_type)
    if read_link is None:
        source.fail(frame.offset, f"link type {frame.link_type}", f"one of {', '.join(map(str, LINK_TYPES))}")
    link = read_link(frame.data)
    data, wire_length = None, frame.wire_length
    if link.network is not None:
        data = frame.data[link.network :]
        wire_length -= link.network
        if link.padded:
            wire_length = network_length(data, wire_length)
            data = data[:wire_length]
    return CapturedPacket(
        n=n,
        data=data,
        wire_length=wire_length,
        timestamp_ns=frame.timestamp_ns,
        interface=frame.interface,
        outbound=link.outbound if frame.outbound is None else frame.outbound,
    )

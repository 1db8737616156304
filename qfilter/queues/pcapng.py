"""The pcapng file format (draft-ietf-opsawg-pcapng): sections of blocks; each interface has its link type and clock."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Literal, NoReturn

from qfilter.queues.capture_source import MAX_FRAME, Frame, Interface, Source

MAGIC = bytes.fromhex("0a0d0d0a")
"""The type of a section header block, the same in both byte orders."""

_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_READ = (_INTERFACE, _SIMPLE, _ENHANCED)
_IF_NAME, _IF_TSRESOL, _IF_TSOFFSET, _EPB_FLAGS = 2, 9, 14, 2
_ORDERS = {bytes.fromhex("1a2b3c4d"): ">", bytes.fromhex("4d3c2b1a"): "<"}
_MAX_BLOCK = 2 * MAX_FRAME
"""Bytes of a block that is read whole: a frame of the greatest length, and as much again for its options."""
_MAX_INTERFACES = 65_536
_LONGEST_NAME = 255
"""Bytes of an interface's name that are kept: every one lives as long as its section."""
_END_OF_TIME = 253_402_300_800 * 1_000_000_000
"""The year 10000, in nanoseconds since the epoch."""
_Endian = Literal["big", "little"]
_OUTBOUND = {1: False, 2: True}  # the lowest two bits of epb_flags


def read_pcapng(source: Source) -> Iterator[Frame]:
    """The packets after the first block's type that nobody took as a batch. CaptureError at the first damaged block."""
    section = _Section.begin(source)
    while True:
        section.pass_on()
        start = source.offset
        raw = source.read_or_end(4, "a block type")
        if raw is None:
            return
        if raw == MAGIC:
            section = _Section.begin(source)
            continue
        frame = section.block(start, int.from_bytes(raw, section.endian))
        if frame is not None:
            yield frame


class _Section:
    """What holds until the next section header: the byte order and the interfaces."""

    def __init__(self, source: Source, order: str) -> None:
        self._source = source
        self._order = order
        self.endian: _Endian = "big" if order == ">" else "little"
        self._interfaces: list[Interface] = []

    @classmethod
    def begin(cls, source: Source) -> _Section:
        """Read the section header behind its block type."""
        start = source.offset - len(MAGIC)
        raw_length, magic = source.read(4, "a block length"), source.read(4, "a byte-order magic")
        if magic not in _ORDERS:
            source.fail(start, f"byte-order magic {magic.hex()}", "1a2b3c4d or 4d3c2b1a")
        section = cls(source, _ORDERS[magic])
        length = int.from_bytes(raw_length, section.endian)
        section._check_length(start, length, least=28)
        major, minor = section._unpack("HH", source.read(4, "a section header"))
        if major != 1:
            source.fail(start, f"pcapng version {major}.{minor}", "1")
        source.skip(length - 20, "a section header")
        section._check_end(start, length)
        return section

    def pass_on(self) -> None:
        """Let a batch be taken of the packets that are here."""
        if self._source.batches:
            take = self._source.batches.pcapng
            self._source.pass_on(partial(take, big=self.endian == "big", interfaces=self._interfaces))

    def block(self, start: int, kind: int) -> Frame | None:
        """Read one block behind its type; a frame when it holds one. Blocks of other kinds are skipped."""
        length = int.from_bytes(self._source.read(4, "a block length"), self.endian)
        self._check_length(start, length, least=12)
        size = length - 12
        if kind not in _READ:
            self._source.skip(size, "a block")
            self._check_end(start, length)
            return None
        if length > _MAX_BLOCK:
            self._source.fail(start, f"block length {length}", f"at most {_MAX_BLOCK}")
        body = _Body(self._source, start, self._source.read(size, "a block"), self._order)
        self._check_end(start, length)
        if kind == _ENHANCED:
            return self._enhanced(body)
        if kind == _SIMPLE:
            return self._simple(body)
        self._add_interface(body)
        return None

    def _add_interface(self, body: _Body) -> None:
        link_type, _, snap_length = body.take("HHI")
        options = body.options()
        exponent = options[_IF_TSRESOL][0] if options.get(_IF_TSRESOL) else 6
        raw_offset = options.get(_IF_TSOFFSET, b"")
        name = options.get(_IF_NAME)
        if len(self._interfaces) == _MAX_INTERFACES:
            body.fail("one more interface", f"at most {_MAX_INTERFACES} in a section")
        self._interfaces.append(
            Interface(
                link_type=link_type,
                snap_length=snap_length,
                name=name[:_LONGEST_NAME].rstrip(b"\0").decode("utf-8", "replace") if name else None,
                units=2 ** (exponent & 0x7F) if exponent & 0x80 else 10**exponent,
                offset=int.from_bytes(raw_offset, self.endian, signed=True) if len(raw_offset) == 8 else 0,
            )
        )

    def _enhanced(self, body: _Body) -> Frame:
        number, high, low, captured, original = body.take("IIIII")
        if number >= len(self._interfaces):
            body.fail(f"interface {number}", f"one of the section's {len(self._interfaces)}")
        interface = self._interfaces[number]
        data = body.data(captured)
        raw_flags = body.options().get(_EPB_FLAGS, b"")
        flags = int.from_bytes(raw_flags, self.endian) if len(raw_flags) == 4 else 0
        return Frame(
            offset=body.start,
            link_type=interface.link_type,
            data=data,
            wire_length=max(captured, original),
            timestamp_ns=_nanoseconds(interface, high << 32 | low),
            interface=interface.name,
            outbound=_OUTBOUND.get(flags & 3),
        )

    def _simple(self, body: _Body) -> Frame:
        (original,) = body.take("I")
        if not self._interfaces:
            body.fail("a simple packet block", "an interface before it")
        interface = self._interfaces[0]
        captured = min(original, interface.snap_length or original)
        return Frame(
            offset=body.start,
            link_type=interface.link_type,
            data=body.data(captured),
            wire_length=original,
            timestamp_ns=None,
            interface=interface.name,
        )

    def _check_length(self, start: int, length: int, least: int) -> None:
        if length < least or length % 4:
            self._source.fail(start, f"block length {length}", f"a multiple of 4 from {least} on")

    def _check_end(self, start: int, length: int) -> None:
        (repeated,) = self._unpack("I", self._source.read(4, "a block's second length"))
        if repeated != length:
            self._source.fail(start, f"second block length {repeated}", f"{length} as the first")

    def _unpack(self, layout: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self._order + layout, data)


def _nanoseconds(interface: Interface, stamp: int) -> int | None:
    """Since the epoch; None for a time that no calendar has, which coarse units can name."""
    time = interface.offset * 1_000_000_000 + stamp * 1_000_000_000 // interface.units
    return time if 0 <= time < _END_OF_TIME else None


class _Body:
    """The inside of one block, taken from the front."""

    def __init__(self, source: Source, start: int, data: bytes, order: str) -> None:
        self._source = source
        self.start = start
        self._rest = memoryview(data)
        self._order = order

    def fail(self, found: str, expected: str) -> NoReturn:
        self._source.fail(self.start, found, expected)

    def take(self, layout: str) -> tuple[int, ...]:
        fields = struct.Struct(self._order + layout)
        return fields.unpack(self._cut(fields.size, "header"))

    def data(self, captured: int) -> bytes:
        """A frame and its padding to 4 bytes."""
        if captured > MAX_FRAME:
            self.fail(f"captured length {captured}", f"at most {MAX_FRAME}")
        return bytes(self._cut(captured + -captured % 4, "packet")[:captured])

    def options(self) -> dict[int, bytes]:
        """The rest of the block, by option code; of repeated options the first."""
        found: dict[int, bytes] = {}
        while self._rest:
            code, length = self.take("HH")
            if code == 0:
                break
            value = bytes(self._cut(length + -length % 4, "option")[:length])
            found.setdefault(code, value)
        return found

    def _cut(self, count: int, what: str) -> memoryview:
        if count > len(self._rest):
            self.fail(f"a {what} of {count} bytes", f"at most the {len(self._rest)} left in its block")
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece

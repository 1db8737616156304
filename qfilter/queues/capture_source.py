"""The bytes of a capture, read forward once, with the position kept for error messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import NoReturn, Protocol

from qfilter.errors import CaptureError

MAX_FRAME = 256 * 1024
"""Bytes of one captured frame, as in libpcap (MAXIMUM_SNAPLEN). A length above it lies, and nothing is allocated."""

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK, _UNZIPPED_BLOCK = 64 * 1024, 8 * 1024
"""Bytes that are read at once. What was decompressed right before damage is lost with its block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One record of a capture, before its link header is read."""

    offset: int
    """Where the record begins."""
    link_type: int
    data: bytes
    wire_length: int
    """Bytes that the frame had on the wire, at least `len(data)`."""
    timestamp_ns: int | None
    """Nanoseconds since the epoch; None where the record has no time."""
    interface: str | None = None
    outbound: bool | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """What a pcapng says about the frames of an interface."""

    link_type: int
    snap_length: int
    """Bytes of a frame at most; 0 is any number."""
    name: str | None
    units: int
    """Units of a timestamp in a second."""
    offset: int
    """Seconds to add to every timestamp."""


class Batches(Protocol):
    """Takes frames many at a time: records that are whole, in a block of a capture from an offset on.

    Both methods tell how many frames and how many bytes were taken. A record that is cut, odd or damaged is left, and
    with it all behind it: it is read here.
    """

    def pcap(self, block: bytes, at: int, *, big: bool, unit: int, link_type: int) -> tuple[int, int]:
        """Records of a pcap in big or little endian; a time's fraction counts `unit` nanoseconds."""

    def pcapng(self, block: bytes, at: int, *, big: bool, interfaces: list[Interface]) -> tuple[int, int]:
        """Blocks of a pcapng. `interfaces` of the section so far: later ones come at its end, a section has its own."""


class Source:
    """A file, or the contents of a gzip file; offsets count in the uncompressed bytes."""

    def __init__(
        self, path: Path, file: BufferedIOBase, *, compressed: bool = False, batches: Batches | None = None
    ) -> None:
        self._path = path
        self._file = file
        self._compressed = compressed
        self._block, self._at = b"", 0
        self.offset = 0
        """Bytes read so far."""
        self.frames = 0
        """Frames read so far, those that `batches` took among them."""
        self.batches = batches

    def pass_on(self, take: Callable[[bytes, int], tuple[int, int]]) -> None:
        """Let a method of `batches` take what it can of the bytes that are here."""
        if self._at == len(self._block):
            self._fill(1)
        frames, size = take(self._block, self._at)
        self.frames += frames
        self._at += size
        self.offset += size

    def read(self, count: int, expected: str) -> bytes:
        """Exactly `count` bytes; CaptureError when the file ends before."""
        start = self.offset
        data = self._take(count)
        if len(data) < count:
            self.fail(start, f"the file ends after {len(data)} bytes", f"{count} bytes of {expected}")
        return data

    def read_or_end(self, count: int, expected: str) -> bytes | None:
        """As `read`, but None when the file ends right here."""
        start = self.offset
        data = self._take(count)
        if not data:
            return None
        if len(data) < count:
            self.fail(start, f"the file ends after {len(data)} bytes", f"{count} bytes of {expected}")
        return data

    def skip(self, count: int, expected: str) -> None:
        """Read past `count` bytes without keeping them."""
        while count:
            count -= len(self.read(min(count, _BLOCK), expected))

    def fail(self, offset: int, found: str, expected: str) -> NoReturn:
        """Raise CaptureError for what stands at `offset`."""
        raise CaptureError(f"{self._path}: {self._where(offset)}: {found}: expected {expected}")

    def _take(self, count: int) -> bytes:
        if len(self._block) - self._at < count:
            self._fill(count)
        data = self._block[self._at : self._at + count]
        self._at += len(data)
        self.offset += len(data)
        return data

    def _fill(self, count: int) -> None:
        """Have `count` bytes here, fewer only at the end of the file."""
        blocks = [self._block[self._at :]]
        missing = count - len(blocks[0])
        while missing > 0 and (block := self._next_block()):
            blocks.append(block)
            missing -= len(block)
        self._block, self._at = b"".join(blocks), 0

    def _next_block(self) -> bytes:
        try:
            return self._file.read1(_UNZIPPED_BLOCK if self._compressed else _BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as damage:
            raise CaptureError(f"{self._path}: {self._where(self.offset)}: {damage}: expected gzip data") from damage
        except OSError as failure:
            raise CaptureError(f"{self._path}: {self._where(self.offset)}: {failure.strerror}") from failure

    def _where(self, offset: int) -> str:
        return f"byte {offset}" + (" of the uncompressed data" if self._compressed else "")


@contextmanager
def open_source(path: Path, batches: Batches | None = None) -> Iterator[Source]:
    """The bytes of a file, decompressed when it begins as gzip does. CaptureError when it cannot be opened."""
    try:
        file = path.open("rb")
    except OSError as failure:
        raise CaptureError(f"{path}: {failure.strerror}") from failure
    with file:
        try:
            compressed = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        except OSError as failure:
            raise CaptureError(f"{path}: {failure.strerror}") from failure
        if compressed:
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield Source(path, unzipped, compressed=True, batches=batches)
        else:
            yield Source(path, file, batches=batches)

"""The bytes of a capture, read forward once, with the position kept for error messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import NoReturn

from qfilter.errors import CaptureError

MAX_FRAME = 256 * 1024
"""Bytes of one captured frame, as in libpcap (MAXIMUM_SNAPLEN). A length above it lies, and nothing is allocated."""

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 64 * 1024


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


class Source:
    """A file, or the contents of a gzip file; offsets count in the uncompressed bytes."""

    def __init__(self, path: Path, file: BufferedIOBase, *, compressed: bool) -> None:
        self._path = path
        self._file = file
        self._compressed = compressed
        self.offset = 0
        """Bytes read so far."""

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
            count -= len(self.read(min(count, _CHUNK), expected))

    def fail(self, offset: int, found: str, expected: str) -> NoReturn:
        """Raise CaptureError for what stands at `offset`."""
        raise CaptureError(f"{self._path}: {self._where(offset)}: {found}: expected {expected}")

    def _take(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._file.read(count - len(parts))
            except (EOFError, zlib.error, gzip.BadGzipFile) as damage:
                # What was decompressed before the damage is lost with this read: at most one record.
                raise CaptureError(
                    f"{self._path}: {self._where(self.offset)}: {damage}: expected gzip data"
                ) from damage
            except OSError as failure:
                raise CaptureError(f"{self._path}: {self._where(self.offset)}: {failure.strerror}") from failure
            if not part:
                break
            parts += part
            self.offset += len(part)
        return bytes(parts)

    def _where(self, offset: int) -> str:
        return f"byte {offset}" + (" of the uncompressed data" if self._compressed else "")


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
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
                yield Source(path, unzipped, compressed=True)
        else:
            yield Source(path, file, compressed=False)

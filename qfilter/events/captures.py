"""The `capture` action: packets in pcapng files (draft-ietf-opsawg-pcapng), each up to its limit of bytes."""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from dataclasses import dataclass, field
from os import PathLike

from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import Captured, Verdict
from qfilter.ownership import require_plain

_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_LINKTYPE_RAW = 101
_COMMENT, _IF_NAME, _EPB_FLAGS = 1, 2, 2
_INBOUND, _OUTBOUND = 1, 2
_DIRECTION = {
    Hook.PREROUTING: _INBOUND,
    Hook.INPUT: _INBOUND,
    Hook.OUTPUT: _OUTBOUND,
    Hook.POSTROUTING: _OUTBOUND,
}
_LONGEST_COMMENT = 1_024
"""Characters; the length of an option is 16 bits."""
_MICROSECONDS = 1 << 64


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet with its verdict, for the files that the verdict's Captured effects name."""

    packet: Packet
    verdict: Verdict
    now: float
    """Seconds since the epoch, for a packet without a time of its own."""


class CaptureSink:
    """Writes to files of one folder, a sink for Writer. Raises OSError when the folder cannot be opened.

    A file is made with mode 0600; one that is there already is continued, and its bytes count, unless another user made
    it. A packet that would take the file above its limit is left out, and so is every later one.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: dict[str, _File] = {}
        self._cancelled = False
        self.left_out: Counter[str] = Counter()
        """Packets that a file's limit kept out, by file."""

    def write(self, seen: Seen) -> None:
        """Write one packet to every file that its verdict names. Raises OSError, after the last of them."""
        failure: OSError | None = None
        for effect in seen.verdict.effects:
            if isinstance(effect, Captured):
                try:
                    self._add(seen, effect)
                except OSError as error:
                    failure = error
        if failure is not None:
            raise failure

    def reopen(self) -> None:
        """Forget every open file; the next packet opens it by its name."""
        while self._files:
            os.close(self._files.popitem()[1].descriptor)

    def cancel(self) -> None:
        """See Sink. Writes to a disk cannot be ended, but no new one begins."""
        self._cancelled = True

    def close(self) -> None:
        """A second call does nothing."""
        self.reopen()
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _add(self, seen: Seen, effect: Captured) -> None:
        if self._cancelled:
            raise OSError(errno.ECANCELED, "closed before it could be written")
        file = self._files.get(effect.file)
        if file is None:
            file = self._files[effect.file] = _File(self._open(effect.file))
        if not file.add(seen, effect):
            self.left_out[effect.file] += 1

    def _open(self, name: str) -> int:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise OSError(errno.EINVAL, f"capture file {name!r}: expected a name without folders")
        # No link that somebody left in the folder may lead the packets elsewhere, and no FIFO may stop the thread.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        try:
            require_plain(descriptor, f"capture file {name!r}")
            if os.pread(descriptor, 4, 0) not in (b"", _SECTION.to_bytes(4, "little")):
                raise OSError(errno.EINVAL, f"capture file {name!r}: expected none, or a pcapng file")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@dataclass(slots=True)
class _File:
    """One open file: what it has is one or more sections, of which the last is ours."""

    descriptor: int
    begun: bool = False
    full: bool = False
    interfaces: dict[str | None, int] = field(default_factory=dict)

    def add(self, seen: Seen, effect: Captured) -> bool:
        """Write the packet, unless that takes the file above the limit. Raises OSError, and the file is as before."""
        if self.full:
            return False
        packet = seen.packet
        name = packet.iifname if packet.iifname is not None else packet.oifname
        number = self.interfaces.get(name, len(self.interfaces))
        blocks = b"" if self.begun else _section()
        if name not in self.interfaces:
            blocks += _interface(name)
        blocks += _enhanced(seen, effect, number)
        size = os.fstat(self.descriptor).st_size
        if size + len(blocks) > effect.limit:
            self.full = True
            return False
        self._append(blocks, size)
        self.begun = True
        self.interfaces[name] = number
        return True

    def _append(self, blocks: bytes, size: int) -> None:
        written = 0
        try:
            while written < len(blocks):
                written += os.write(self.descriptor, blocks[written:])
        except OSError:
            # Half a block would hide every later one from readers.
            os.ftruncate(self.descriptor, size)
            raise


def _section() -> bytes:
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1))


def _interface(name: str | None) -> bytes:
    options = b"" if name is None else _option(_IF_NAME, _text(name))
    return _block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_RAW, 0, 0) + options)


def _enhanced(seen: Seen, effect: Captured, number: int) -> bytes:
    packet, verdict = seen.packet, seen.verdict
    stamp = _microseconds(packet.timestamp, seen.now)
    place = f" at {verdict.at}" if verdict.at else ""
    decided = f"{verdict.reason} {verdict.rule or verdict.detail}".rstrip()
    comment = f"captured by {effect.rule}; {verdict.decision} by {decided}{place}"
    options = _option(_COMMENT, _text(comment[:_LONGEST_COMMENT]))
    direction = _DIRECTION.get(packet.hook)
    if direction is not None:
        options += _option(_EPB_FLAGS, struct.pack("<I", direction))
    length = len(packet.data)
    header = struct.pack("<IIIII", number, stamp >> 32, stamp & 0xFFFF_FFFF, length, packet.wire_length)
    return _block(_ENHANCED, header + _padded(packet.data) + options)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "backslashreplace")


def _microseconds(stamp: float | None, now: float) -> int:
    for seconds in (stamp, now):
        if seconds is not None and 0 <= seconds * 1_000_000 < _MICROSECONDS:
            return round(seconds * 1_000_000)
    return 0

"""The files of one policy: read once, bounded, and kept so that a mistake can show its line."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from qfilter.errors import Position
from qfilter.policy.text import LINE_BREAK

MAX_BYTES = 16 * 1024 * 1024
"""Size of one file of YAML."""
MAX_LIST_BYTES = 64 * 1024 * 1024
"""Size of one file of a set: a million IPv6 prefixes."""


class UnreadableError(Exception):
    """A file that cannot be used, with the reason; `kind` is `unreadable` or `too-large`."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


@dataclass(slots=True)
class Sources:
    """Texts by the name that positions call them by, in the order in which they were read."""

    texts: dict[str, bytes] = field(default_factory=dict)
    stacks: dict[str, tuple[Position, ...]] = field(default_factory=dict)
    """The entries that led to a file, innermost first; nothing for the policy itself."""
    writable: dict[str, str] = field(default_factory=dict)
    """What is said of the files that others can write, by their names."""
    _lines: dict[str, list[str]] = field(default_factory=dict)
    """Of the texts whose lines were asked for."""
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self, path: Path, name: str, stack: tuple[Position, ...] = (), most: int = MAX_BYTES) -> bytes:
        """The bytes of a file, so many at most. Raises UnreadableError, also for anything but a regular file."""
        try:
            # A FIFO would block for ever when it is opened.
            if not stat.S_ISREG(path.stat().st_mode):
                raise UnreadableError("unreadable", f"{name!r} is not a file")
            with path.open("rb") as stream:
                self._judge(name, os.fstat(stream.fileno()))
                data = stream.read(most + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreadableError("unreadable", f"cannot read {name!r}: {reason.lower()}") from None
        self.add(name, data, stack, most)
        return data

    def _judge(self, name: str, status: os.stat_result) -> None:
        """Note a file that others, or a group that is not root's or ours, can write."""
        writers = stat.S_IWOTH | (0 if status.st_gid in (0, os.getegid()) else stat.S_IWGRP)
        mode = stat.S_IMODE(status.st_mode)
        if mode & writers:
            expected = mode & ~writers
            self.writable[name] = (
                f"{name!r} can be written by others (mode {mode:04o}): expected at most {expected:04o}"
            )

    def add(self, name: str, data: bytes, stack: tuple[Position, ...] = (), most: int = MAX_BYTES) -> None:
        """Keep a text. Raises UnreadableError when it is too large."""
        self.stacks[name] = stack
        self.texts[name] = b""
        self._lines.pop(name, None)
        if len(data) > most:
            raise UnreadableError("too-large", f"the file has more than {most:,} bytes")
        self._hash.update(data)
        self.texts[name] = data

    def forget(self, name: str) -> None:
        """Let go of the text of a large file in which nothing is wrong."""
        self.texts[name] = b""

    @property
    def digest(self) -> str:
        """SHA-256, hex, of everything read so far."""
        return self._hash.hexdigest()

    def line(self, at: Position) -> str:
        """The text of a position's line; empty where there is none."""
        if at.file not in self._lines:
            self._lines[at.file] = LINE_BREAK.split(self.texts.get(at.file, b"").decode("utf-8", "replace"))
        lines = self._lines[at.file]
        return lines[at.line - 1] if 0 < at.line <= len(lines) else ""

    def stack(self, file: str) -> tuple[Position, ...]:
        """The entries that led to a file, innermost first."""
        return self.stacks.get(file, ())

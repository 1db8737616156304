"""Events, or whatever becomes bytes, to a stream or to the end of a file."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Generic

from qfilter.events.record import Event
from qfilter.events.writer import Item_contra
from qfilter.ownership import require_own

Render = Callable[[Item_contra], bytes]
"""An item as it is to be written, its line's end included."""


class StreamSink(Generic[Item_contra]):
    """A descriptor that somebody else owns, such as standard output."""

    def __init__(self, descriptor: int, render: Render[Item_contra]) -> None:
        self._descriptor = descriptor
        self._render = render
        self._cancelled = os.eventfd(0, os.EFD_CLOEXEC)
        self._torn = False

    def write(self, item: Item_contra) -> None:
        """Write one item; wait while nobody reads. Raises OSError."""
        line = self._render(item)
        # After a disk was full in the middle of a line, the next one must not continue it.
        rest = whole = (b"\n" if self._torn else b"") + line
        try:
            while rest:
                self._await_room()
                # A pipe that has room has room for this much: with no more, the write does not block. The descriptor
                # is shared with other processes, so that making it non-blocking is not ours to do.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
        except OSError:
            self._torn = self._torn or len(rest) < len(whole)
            raise
        self._torn = False

    def reopen(self) -> None:
        """Nothing to open."""

    def cancel(self) -> None:
        """See Sink."""
        os.eventfd_write(self._cancelled, 1)

    def close(self) -> None:
        """The descriptor stays open. A second call does nothing."""
        if self._cancelled >= 0:
            os.close(self._cancelled)
            self._cancelled = -1

    def _await_room(self) -> None:
        waiting = select.poll()
        waiting.register(self._cancelled, select.POLLIN)
        waiting.register(self._descriptor, select.POLLOUT)
        if any(descriptor == self._cancelled for descriptor, _ in waiting.poll()):
            raise OSError(errno.ECANCELED, "closed before it could be written")


class FileSink(StreamSink[Event]):
    """The end of a file, made with mode 0600 where there is none.

    Raises OSError when it cannot be opened, and when another user made it, who would read the events. Devices, FIFOs
    and a standard stream may be anybody's: those are chosen, not found.
    """

    def __init__(self, path: str | PathLike[str], render: Render[Event]) -> None:
        self._path = Path(path)
        super().__init__(self._open(), render)

    def reopen(self) -> None:
        """Go on in the file that has the name now. Raises OSError, and then the old one stays."""
        new = self._open()
        if not os.path.sameopenfile(new, self._descriptor):
            self._torn = False
        os.close(self._descriptor)
        self._descriptor = new

    def close(self) -> None:
        """A second call does nothing."""
        if self._cancelled >= 0:
            os.close(self._descriptor)
        super().close()

    def _open(self) -> int:
        # Non-blocking for a FIFO: without a reader it is refused, instead of waiting for one.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and not _is_standard(status):
                require_own(descriptor, str(self._path))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _is_standard(file: os.stat_result) -> bool:
    """Whether standard output or error goes there anyway."""
    for stream in (1, 2):
        with suppress(OSError):  # it is closed
            if os.path.samestat(file, os.fstat(stream)):
                return True
    return False

"""scapy kept honest and bounded: a packet that it gives up on must not pass for one without the layer.

scapy is a tool for people at a prompt. Where a packet is hostile it logs and goes on with a guess, turns what it cannot
dissect into raw bytes, or follows the packet's own loops for seconds. Here each of these ends the dissection.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scapy.config import conf

MAX_CALLS = 100_000
"""Python calls that one dissection may take, counted so that every machine stops at the same one.

A thousand is usual, the largest sound packet of tcpdump's corpus takes 21,000; all of them are some 50 ms.
"""


class GaveUpError(Exception):
    """What scapy said when it could not read a packet as its headers claim."""


class _ExhaustedError(BaseException):
    """Ends a dissection past everything in scapy that catches exceptions."""


class _Complaints(logging.Filter):
    """Turns what scapy logs during a dissection into an exception; at any other time it is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        # scapy.packet raises by itself after what it logs, or need not: it does not know what comes next, and says so.
        if getattr(self.thread, "dissecting", False) and record.module != "packet":
            raise GaveUpError(record.getMessage())
        return False


_COMPLAINTS = _Complaints()
_LOGGER = logging.getLogger("scapy.runtime")
_LOGGER.setLevel(logging.INFO)
_LOGGER.filters.insert(0, _COMPLAINTS)  # before scapy's own, which drops what it has seen often


@contextmanager
def guarded() -> Iterator[None]:
    """Dissect inside this. Raises GaveUpError when scapy complains or takes too long, and whatever scapy raises."""
    calls = 0

    def count(_: FrameType, __: str, ___: object) -> None:
        nonlocal calls
        calls += 1
        if calls > MAX_CALLS:
            raise _ExhaustedError

    conf.debug_dissector = True  # without it a layer that raises becomes raw bytes
    profiler, before = sys.getprofile(), getattr(_COMPLAINTS.thread, "dissecting", False)
    _COMPLAINTS.thread.dissecting = True
    sys.setprofile(count)
    try:
        yield
    except _ExhaustedError:
        raise GaveUpError(f"more than {MAX_CALLS:,} calls to dissect it") from None
    finally:
        sys.setprofile(profiler)
        _COMPLAINTS.thread.dissecting = before
    if calls > MAX_CALLS:
        raise GaveUpError(f"more than {MAX_CALLS:,} calls to dissect it")

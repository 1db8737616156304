"""Memory that loading a policy took, back to the kernel."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Let go of what was freed: glibc keeps it, by default up to twice its largest piece (mallopt(3)).

    Where the C library has no malloc_trim(3), nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

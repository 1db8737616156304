"""What holds for all tests: without root the kernel's are skipped, and a slow machine fails no property."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("qfilter", deadline=None)
if "CI" not in os.environ:  # there hypothesis chooses its own profile: the same examples every time
    hypothesis.settings.load_profile("qfilter")

KERNEL = Path(__file__).parent / "kernel"


def pytest_configure() -> None:
    # A shell that starts us in the background has us ignore Ctrl-C, and all that we start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.path.is_relative_to(KERNEL):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))

"""Says at the end how often the engines were compared."""

from __future__ import annotations

import pytest

from tests.fuzz.engines import compared


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if compared:
        counts = ", ".join(f"{count:,} {what}" for what, count in compared.items())
        terminalreporter.write_line(f"native and reference engine compared: {counts}")

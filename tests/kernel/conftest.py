"""Fixtures for tests on a real kernel, each in namespaces of its own.

A test skips only where a probe says "not supported", and fails where a probe says "broken":

    @pytest.mark.needs("nfqueue", "iptables-legacy")
    def test_something(lab: Lab) -> None: ...
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.probes import NAMES, State, probe
from tests.lab.topology import Lab

_SKIPPED = "not supported here"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*names): skip where a probe says not supported: {', '.join(NAMES)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        _require(*mark.args)


@pytest.fixture
def require() -> Callable[..., None]:
    """`require("nft-queue")` in the middle of a test, for what only some of its parameters need."""
    return _require


@pytest.fixture
def lab() -> Iterator[Lab]:
    """client - gateway - server, with no firewall rule anywhere."""
    _require("root", "netns", "ipv6")
    with Lab() as built:
        yield built


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes the text of a policy and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return path

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """In CI as root nothing is skipped in silence: what was, how often, and by which probe's word."""
    if os.environ.get("CI") != "true" or os.geteuid():
        return
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    ours = {reason: count for reason, count in sorted(reasons.items()) if reason.startswith(_SKIPPED)}
    if ours:
        terminalreporter.section("kernel tests that this machine cannot run")
        for reason, count in ours.items():
            terminalreporter.write_line(f"{count:4} skipped, {reason}")


def _require(*names: str) -> None:
    for name in names:
        if name not in NAMES:
            raise pytest.UsageError(f"needs({name!r}): expected one of {', '.join(NAMES)}")
        finding = probe(name)
        if finding.state is State.NOT_SUPPORTED:
            pytest.skip(f"{_SKIPPED}: {name}: {finding.why}")
        if finding.state is State.BROKEN:
            pytest.fail(f"{name} is {finding}", pytrace=False)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")

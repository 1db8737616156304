"""`make run`: what it shows, what it returns, and that nothing is left however it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.lab.demo import main
from tests.lab.namespace import FOLDER, Namespace
from tests.lab.probes import probe
from tests.lab.process import Running, runs, wait_until

pytestmark = pytest.mark.needs("root", "netns", "ipv6", "nfqueue", "ping", "curl")


@pytest.fixture
def demo() -> Iterator[Running]:
    with Running([sys.executable, "-m", "tests.lab.demo"]) as running:
        yield running


def namespaces(demo: Running) -> list[str]:
    return sorted(entry.name for entry in FOLDER.iterdir() if entry.name.startswith(f"qlab-{demo.pid}-"))


def gateway(demo: Running) -> Namespace:
    return Namespace(next(name for name in namespaces(demo) if name.endswith("-gateway")))


def test_every_client_sees_what_the_policy_promises(demo: Running) -> None:
    assert demo.wait(timeout=60.0) == 0, demo.output
    assert namespaces(demo) == []
    verdicts = [line for line in demo.lines if line.startswith("qfilter | ")]
    for rule in ("ping", "web-opens", "dns-ok", "dns-tunnel", "telnet", "spoofed", "knock"):
        shown = [line for line in verdicts if rule in line]
        assert len(shown) >= 2, f"{rule}: expected a line when it fell and one in the table of rules\n{demo.output}"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_when_it_is_ended_by(demo: Running, number: signal.Signals, code: int) -> None:
    demo.wait_for("qfilter | ", "ping")
    inside = gateway(demo).pids()
    assert inside
    demo.send(number)
    assert demo.wait(timeout=20.0) == code
    wait_until(lambda: namespaces(demo) == [], "the demo's namespaces should go")
    wait_until(lambda: not any(map(runs, inside)), "what ran in the gateway should go")


def test_it_fails_when_qfilter_crashes(demo: Running) -> None:
    demo.wait_for("qfilter | ", "ping")
    for pid in gateway(demo).pids():
        os.kill(pid, signal.SIGKILL)
    assert demo.wait(timeout=30.0) == 1
    assert any(line.startswith("qfilter demo: ") for line in demo.lines)
    assert namespaces(demo) == []


def test_without_root_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65_534)
    probe.cache_clear()
    assert main() == 2
    probe.cache_clear()
    assert capsys.readouterr().err == "qfilter demo: needs root: run `sudo make run`\n"

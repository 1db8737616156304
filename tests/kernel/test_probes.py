"""The probes do not guess: what they say is what happens, and their words decide what is skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import probes
from tests.lab.holder import QueueHolder
from tests.lab.probes import NAMES, State, probe
from tests.lab.process import LabError, run
from tests.lab.topology import Lab


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_is_never_broken_and_always_says_why_not(name: str) -> None:
    finding = probe(name)
    assert finding.state is not State.BROKEN, finding
    assert bool(finding.why) is (finding.state is State.NOT_SUPPORTED)


def test_a_missing_tool_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command, **_: None if command == "nft" else f"/usr/sbin/{command}")
    assert probe.__wrapped__("nft") == probes.Finding(State.NOT_SUPPORTED, "nft is not installed")


@pytest.mark.needs("netns")
@pytest.mark.parametrize(
    ("script", "state", "why"),
    [
        ("exit 0", State.BROKEN, "0 of 1 datagrams came to queue 0"),
        ("echo 'No chain/target/match by that name' >&2; exit 1", State.NOT_SUPPORTED, "by that name"),
        ("echo 'Segmentation fault' >&2; exit 139", State.BROKEN, "exit code 139"),
    ],
)
def test_a_tool_that_lies_or_crashes_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, state: State, why: str
) -> None:
    tool = tmp_path / "iptables-legacy"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    finding = probe.__wrapped__("iptables-legacy")
    assert finding.state is state
    assert why in finding.why


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (probes.NotSupportedError("the kernel has none"), pytest.skip.Exception),
        (LabError("it fell over"), pytest.fail.Exception),
    ],
)
def test_what_is_not_supported_skips_and_what_is_broken_fails(
    require: Callable[..., None], monkeypatch: pytest.MonkeyPatch, raised: Exception, outcome: type[BaseException]
) -> None:
    def conntrack() -> None:
        raise raised

    monkeypatch.setitem(probes._PROBES, "conntrack", conntrack)
    probe.cache_clear()
    with pytest.raises(outcome, match=f"conntrack.*{raised}"):
        require("conntrack")
    probe.cache_clear()


def test_a_need_that_no_probe_knows_is_an_error(require: Callable[..., None]) -> None:
    with pytest.raises(pytest.UsageError, match="needs\\('iptable'\\): expected one of root, netns"):
        require("iptable")


@pytest.mark.needs("nfqueue")
def test_a_held_queue_is_seen_and_refused_to_others(lab: Lab) -> None:
    with QueueHolder(lab.gateway, 7) as holder:
        assert lab.gateway.queues()[7].port_id == holder.port_id
        assert lab.client.queues() == {}
        with pytest.raises(PermissionError):
            QueueHolder(lab.gateway, 7)
    assert lab.gateway.queues() == {}


def test_no_probe_leaves_a_namespace(require: Callable[..., None]) -> None:
    require("netns")
    for name in NAMES:
        probe.__wrapped__(name)
    assert f"qlab-{os.getpid()}-" not in run(["ip", "netns", "list"]).stdout

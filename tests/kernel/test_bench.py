"""`make bench` in small: everybody who is there decides packets, and has every figure. Nothing is said about speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import network
from benchmarks.arena import SMALL, Arena, Flood
from benchmarks.subjects import Subject, c_loop, iptables, netfilterqueue, nft, no_queue
from tests.lab.process import LabError, run, runs, wait_until

pytestmark = pytest.mark.needs("root", "netns", "ipv6", "nfqueue", "iptables-legacy")

ROSTER = network.roster(quick=True)


def flood(subject: Subject, size: int = SMALL, others_every: int = 0) -> Flood:
    with Arena() as arena, subject.place(arena) as pids:
        return arena.flood(pids, 0.2, size, others_every)


@pytest.mark.parametrize("subject", ROSTER, ids=lambda subject: subject.name)
def test_every_subject_delivers_and_has_its_figures(subject: Subject) -> None:
    with Arena() as arena:
        sample = network.measure(arena, subject, network.QUICK)
        assert arena.gateway.queues() == {}
        assert "-A" not in arena.gateway.run("iptables-legacy-save").stdout
        assert arena.gateway.run("nft", "list", "ruleset").stdout == ""
    unmeasured = {figure for figure, value in sample.items() if value is None}
    has_consumer = subject.name.startswith(("C loop", "NetfilterQueue", "qfilter"))
    assert unmeasured == (set() if has_consumer else {"cpu_ns", "resident_mib", "peak_mib"})
    may_be_none = {"idle_before", "cpu_ns"}  # CPU time comes in ticks: a short flood may spend less than one
    assert {name for name, value in sample.items() if value is not None and value <= 0} <= may_be_none


@pytest.mark.parametrize("subject", [no_queue(), iptables(10), nft(10)], ids=lambda subject: subject.name)
def test_without_a_queue_all_that_is_sent_is_counted(subject: Subject) -> None:
    seen = flood(subject)
    assert seen.sent == seen.delivered


@pytest.mark.parametrize("subject", [c_loop(), c_loop(queues=2), netfilterqueue()], ids=lambda subject: subject.name)
def test_large_packets_come_through_a_queue(subject: Subject) -> None:
    seen = flood(subject, size=1_400)
    assert 0 < seen.delivered <= seen.sent


def test_one_packet_of_a_hundred_goes_elsewhere() -> None:
    seen = flood(no_queue(), others_every=100)
    assert seen.ordinary_kpps / seen.kpps == pytest.approx(0.99, abs=1e-3)


def test_a_flood_of_which_nothing_arrives_is_no_figure() -> None:
    with Arena() as arena, arena.queued(), pytest.raises(LabError, match="no packet of the flood arrived"):
        arena.flood((), 0.1)


def test_a_consumer_that_has_ended_is_no_figure() -> None:
    with Arena() as arena, arena.gateway.start("true") as ended:
        wait_until(lambda: not runs(ended.pid), "it should end")
        with pytest.raises(LabError, match=f"process {ended.pid} has ended"):
            arena.flood([ended.pid], 0.1)


def test_a_quick_run_saves_and_reports(tmp_path: Path) -> None:
    done = run(
        [sys.executable, "-m", "benchmarks", "alone", "report", "--quick", "--rounds", "1", "--to", str(tmp_path)],
        timeout=60.0,
    )
    assert "compile_share" in done.stdout
    saved = json.loads((tmp_path / "performance.json").read_text())
    assert saved["alone"]["load_s"] > 0
    assert "| compile 10,000 rules | of loading them | at most 15.0% |" in (tmp_path / "performance.md").read_text()


def test_figures_of_a_quick_run_never_get_into_the_documents() -> None:
    refused = run([sys.executable, "-m", "benchmarks", "report", "--quick"], check=False)
    assert refused.returncode == 2
    assert "expected --to FOLDER" in refused.stderr

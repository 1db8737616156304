"""Events and captured packets to all the places that were asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qfilter.events.outputs import Outputs
from qfilter.events.record import EventType, event
from qfilter.events.writer import Outcome
from qfilter.model.verdict import ACCEPT, Captured, Reason, Verdict
from qfilter.queues.captures import read_capture
from tests.unit.events.samples import NOW, packet

START = event(EventType.START, NOW, {"file": "web.yaml"})


def test_nowhere() -> None:
    outputs = Outputs()
    outputs.put(START)
    outputs.capture(packet(), Verdict(ACCEPT, Reason.RULE, effects=(Captured("seen", "seen.pcapng", 4_096),)))
    outputs.reopen()
    outputs.close()
    assert outputs.outcome == Outcome(written=0, lost=0, error="")


def test_to_a_file_and_to_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outputs = Outputs()
    outputs.to_file(tmp_path / "events.json")
    outputs.to_stdout(json=False)
    outputs.put(START)
    outputs.close()
    outputs.close()
    assert json.loads((tmp_path / "events.json").read_text())["file"] == "web.yaml"
    assert capfd.readouterr().out.startswith("22:13:20.000000  START   web.yaml: ")
    assert outputs.outcome == Outcome(written=2, lost=0, error="")


def test_what_one_place_loses_another_has(tmp_path: Path) -> None:
    outputs = Outputs()
    outputs.to_file("/dev/full")
    outputs.to_file(tmp_path / "events.json")
    outputs.put(START)
    outputs.put(START)
    outputs.close()
    assert (outputs.outcome.written, outputs.outcome.lost) == (2, 2)
    assert "No space left on device" in outputs.outcome.error
    assert len((tmp_path / "events.json").read_text().splitlines()) == 2


def test_after_closing_events_are_lost_and_the_outcome_stays(tmp_path: Path) -> None:
    outputs = Outputs()
    outputs.to_file(tmp_path / "events.json")
    outputs.close()
    outputs.put(START)
    assert outputs.outcome == Outcome(written=0, lost=0, error="")


def test_only_packets_that_a_rule_captures(tmp_path: Path) -> None:
    outputs = Outputs()
    outputs.captures_in(tmp_path)
    outputs.capture(packet(), Verdict(ACCEPT, Reason.RULE))
    assert list(tmp_path.iterdir()) == []
    outputs.capture(packet(), Verdict(ACCEPT, Reason.RULE, effects=(Captured("seen", "seen.pcapng", 4_096),)))
    outputs.close()
    assert [captured.data for captured in read_capture(tmp_path / "seen.pcapng")] == [packet().data]


def test_a_place_that_is_none(tmp_path: Path) -> None:
    outputs = Outputs()
    with pytest.raises(FileNotFoundError):
        outputs.to_file(tmp_path / "nowhere" / "events.json")
    with pytest.raises(NotADirectoryError):
        outputs.captures_in("/dev/null")
    outputs.close()

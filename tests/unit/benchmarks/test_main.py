"""What a run saves and says, whatever it measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import growth, results
from qfilter.errors import ControlError
from tests.lab.process import LabError


def test_a_section_that_fails_keeps_its_old_figures_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def network(_rounds: int, _quick: bool) -> results.Results:
        raise LabError("no packet arrived")

    def changes(_rounds: int, _quick: bool) -> results.Results:
        raise ControlError("no service answers")

    def growing(rounds: int, _quick: bool) -> results.Results:
        asked.append(("growth", rounds))
        return {"rules": {"C loop": {"10": 1.0}}}

    sections = {"network": network, "changes": changes, "growth": growing}
    monkeypatch.setattr(bench, "_SECTIONS", sections)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["bench", "--rounds", "5", "--to", str(tmp_path)])
    file = tmp_path / results.FILE.name
    former: results.Results = {"rounds": []}
    results.write({"runs": {"network": {"commit": "older"}}, "network": former}, file)
    assert bench.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said == ["benchmarks: network: no packet arrived", "benchmarks: changes: no service answers"]
    assert asked == [("growth", growth.MOST_ROUNDS)]
    saved = json.loads(file.read_text())
    assert saved["network"] == former
    assert saved["runs"]["network"] == {"commit": "older"}
    assert saved["runs"]["growth"]["rounds"] == growth.MOST_ROUNDS
    assert "| kpps over rules | 10 |" in (tmp_path / "performance.md").read_text()

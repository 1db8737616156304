"""What becomes of an event that cannot be made."""

from __future__ import annotations

import pytest

from qfilter.daemon.recorder import Recorder
from qfilter.events.outputs import Outputs
from qfilter.model.verdict import DROP, Reason, Verdict
from tests.unit.engine.policies import engine, packet


@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_it_is_lost_and_nothing_ends(monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]) -> None:
    def fails(_: object) -> None:
        raise raised

    judge = engine("")
    monkeypatch.setattr(judge, "summary", fails)
    outputs = Outputs()
    recorder = Recorder(outputs)
    recorder.verdict(judge, packet(), Verdict(DROP, Reason.ERROR))
    assert recorder.lost == 1
    outputs.close()

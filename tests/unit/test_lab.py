"""What the lab of virtual machines puts on its firewall is what the documents say."""

from __future__ import annotations

import shutil
from pathlib import Path

import qfilter
from tests import documents
from tests.documents import GUIDE
from tests.lab.process import ROOT


def test_its_policy_passes_its_tests(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rules/lib", tmp_path / "lib")
    shutil.copy(ROOT / "vagrant/policy.yaml", tmp_path)
    outcome = qfilter.load(tmp_path / "policy.yaml").test()
    assert [str(failure.diagnostic()) for failure in outcome.failures] == []
    assert len(outcome.results) > 70


def test_its_service_is_the_guides() -> None:
    (unit,) = documents.blocks(GUIDE, "ini")
    text = (ROOT / "vagrant/qfilter.service").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == unit.text.replace("/opt/qfilter", "/srv/qfilter").splitlines()

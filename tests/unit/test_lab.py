"""What the lab of virtual machines puts on its firewall is what the documents say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import qfilter
from tests import documents
from tests.documents import GUIDE
from tests.lab.process import ROOT, run
from tests.lab.service import qfilter as command


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Beside the library, as provisioning puts it."""
    shutil.copytree(ROOT / "rules/lib", tmp_path / "lib")
    return Path(shutil.copy(ROOT / "vagrant/policy.yaml", tmp_path))


def test_its_policy_passes_its_tests(policy: Path) -> None:
    outcome = qfilter.load(policy).test()
    assert [str(failure.diagnostic()) for failure in outcome.failures] == []
    assert len(outcome.results) > 70


def test_its_page_explains_a_packet_that_the_default_drops(policy: Path) -> None:
    (packet,) = re.findall(r"--packet \\\n\s+'(.*)'", (ROOT / "docs/lab.md").read_text())
    said = run(command("explain", policy, "--packet", packet)).stdout
    assert "by       default of forward at" in said


def test_its_service_is_the_guides() -> None:
    (unit,) = documents.blocks(GUIDE, "ini")
    text = (ROOT / "vagrant/qfilter.service").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == unit.text.replace("/opt/qfilter", "/srv/qfilter").splitlines()


def test_no_function_of_its_script_returns_without_a_status() -> None:
    """In a trap that is the status from before the trap: after a failure the machines would stay."""
    text = (ROOT / "vagrant/lab").read_text()
    assert re.findall(r"^.*\breturn *(?:#.*|;.*|\}.*)?$", text, re.MULTILINE) == []

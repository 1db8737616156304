"""What the lab of virtual machines puts on its firewall is what the documents say."""

from __future__ import annotations

import re
import shutil
import sys
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


def test_its_report_counts_no_test_that_a_stopped_run_had_in_hand(tmp_path: Path) -> None:
    """By a pytest that is really stopped: how it writes that down is its own."""
    module = tmp_path / "test_stopped.py"
    module.write_text("def test_first(): pass\ndef test_in_hand(): raise KeyboardInterrupt\ndef test_never(): pass\n")
    (tmp_path / "facts.json").write_text(
        '{"box": "debian/none64", "kernel": "6.1", "driver": "qemu", "commit": "1", "date": "2026-11-22"}'
    )
    here = ("-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path))
    run([sys.executable, "-m", "pytest", *here, str(module), "-k", "first", f"--junitxml={tmp_path}/lab.xml"])
    run([sys.executable, "-m", "pytest", *here, str(module), f"--junitxml={tmp_path}/kernel.xml"], check=False)
    done = run([sys.executable, str(ROOT / "vagrant/report"), str(tmp_path)], check=False)
    assert "| lab | 1 | 0 | 0 |\n| kernel | 1 | 0 | 1 |\n" in done.stdout
    assert "kernel: did not come to its end: stopped with 1 in hand" in done.stdout
    assert done.returncode == 1

"""Without root: what needs it says so in one line, and all else works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.lab.process import ROOT
from tests.unit.cli.conftest import POLICY
from tests.unit.queues.capture_files import SYN, pcap_header, pcap_record

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
SCRIPT = "import sys; from qfilter.cli import main; sys.argv[0] = 'qfilter'; main()"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As nobody, or as whoever runs the tests when that is not root."""
    become = NOBODY if os.geteuid() == 0 else ()
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*become, sys.executable, "-c", SCRIPT, *words]
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """With a policy and a capture that everybody can read."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    with TemporaryDirectory() as name:
        there = Path(name)
        there.chmod(0o755)
        (there / "policy.yaml").write_text(POLICY)
        (there / "one.pcap").write_bytes(pcap_header(101) + pcap_record(SYN))
        for file in there.iterdir():
            file.chmod(0o644)
        probe = run(there, "--version")
        if probe.returncode:
            pytest.skip(f"another user cannot run this Python: {probe.stderr.strip().splitlines()[-1]}")
        yield there


@pytest.mark.parametrize(
    "words",
    [
        ("run", "policy.yaml"),
        ("run", "policy.yaml", "--no-install"),
        ("install", "policy.yaml"),
        ("remove",),
        ("status",),
        ("status", "policy.yaml"),
    ],
)
def test_what_needs_root_says_so_in_one_line(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, *words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert "root or CAP_NET_ADMIN" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("check", "policy.yaml"),
        ("test", "policy.yaml"),
        ("explain", "policy.yaml", "--packet", "{protocol: udp, sport: 53}"),
        ("replay", "policy.yaml", "one.pcap", "--iif", "eth0"),
        ("schema",),
        ("fields",),
        ("completion", "bash"),
    ],
)
def test_what_needs_no_root(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_policy_that_cannot_be_read_is_as_one_that_is_not_there(folder: Path) -> None:
    secret = folder / "secret.yaml"
    secret.write_text(POLICY)
    secret.chmod(0o000)
    try:
        for name, why in (("secret.yaml", "permission denied"), ("none.yaml", "no such file or directory")):
            done = run(folder, "check", name)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr == f"{name}:1:1: error: cannot read '{name}': {why}\n"
    finally:
        secret.unlink()

"""README.md and the operator's guide tell the truth: every command without sudo is run as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import documents
from tests.documents import GUIDE, README
from tests.lab.process import ROOT, environment
from tests.unit.queues.capture_files import SYN, pcap_header, pcap_record

_LINKTYPE_RAW = 101

SAYS: dict[str, tuple[str, ...]] = {
    # README.md
    ".venv/bin/qfilter check first.yaml": ("first.yaml: ok: 7 rules on input, 1 set, 2 tests pass",),
    ".venv/bin/qfilter test first.yaml": ("2 passed, 0 failed", "no test matches dns-ok at first.yaml:22:9"),
    ".venv/bin/qfilter explain first.yaml --packet '{saddr: 198.51.100.7, protocol: tcp, dport: 22}'": (
        "verdict  reject port-unreachable",
        "by       ssh-others at first.yaml:17:5",
        "saddr in $management (line 16): saddr is 198.51.100.7",
    ),
    # docs/operators-guide.md
    "qfilter check policy.yaml": ("policy.yaml: ok: 3 rules on input, output, 1 set, 2 tests pass",),
    "qfilter test policy.yaml": ("2 passed, 0 failed", "no test matches ping at policy.yaml:8:5"),
    "qfilter explain policy.yaml --packet '{hook: input, saddr: 198.51.100.7, protocol: tcp, dport: 22}'": (
        "verdict  drop",
        "by       default of input at policy.yaml:2:18",
    ),
    "qfilter replay policy.yaml yesterday.pcap --hook input": ("policy.yaml:2:18", "verdicts: 8 drop"),
    "qfilter test policy.yaml more-tests.yaml --cover 100 --junit report.xml": ("4 passed, 0 failed", "(100 %)"),
    "qfilter explain policy.yaml --hook input --scapy \"IP(src='192.0.2.1')/TCP(dport=22)\"": (
        "verdict  drop",
        "saddr in $admins (line 7): saddr is 192.0.2.1",
    ),
    "qfilter explain policy.yaml --hook input --iif eth0 --capture attack.pcap --number 7": (
        "verdict  drop",
        "iifname='eth0'",
    ),
}
"""What each command prints, among other things; all of them succeed."""


def shown() -> list[str]:
    commands = [line for file in (README, GUIDE) for line in documents.commands(file)]
    return [line for line in commands if not line.startswith("sudo ")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the files that the commands name."""
    (tmp_path / "first.yaml").write_text(documents.blocks(README, "yaml")[0].text)
    (tmp_path / "policy.yaml").write_text(documents.blocks(GUIDE, "yaml")[0].text)
    for block in documents.blocks(GUIDE, "yaml"):
        if block.name == "more-tests.yaml":
            (tmp_path / block.name).write_text(block.text)
    for name in ("yesterday.pcap", "attack.pcap"):
        (tmp_path / name).write_bytes(pcap_header(_LINKTYPE_RAW) + 8 * pcap_record(SYN))
    return tmp_path


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment() | {"COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("line", shown())
def test_a_command_does_what_it_promises(line: str, folder: Path) -> None:
    assert line in SAYS, f"nobody has said here what {line!r} prints"
    program, *words = shlex.split(line)
    assert program in (".venv/bin/qfilter", "qfilter")
    output = run([str(Path(sys.executable).with_name("qfilter")), *words], folder)
    for text in SAYS[line]:
        assert text in output


def test_no_promise_is_left_of_a_command_that_went() -> None:
    assert SAYS.keys() <= set(shown())


def test_the_python_of_the_readme_runs_and_its_condition_can_be_asked() -> None:
    (block,) = documents.blocks(README, "python")
    asked = """
for payload, matched in ((b"short", True), (b"long enough", False)):
    text = "{version: 1, default: {input: drop}, rules: [{match: {python: my.short-payload}, verdict: accept}]}"
    header = bytes.fromhex("450000000001000040fd0000c0000201c6336402")
    data = header[:2] + (20 + len(payload)).to_bytes(2) + header[4:] + payload
    assert (qfilter.loads(text).evaluate(qfilter.Packet.from_bytes(data, hook="input")).reason == "rule") is matched
"""
    output = run([sys.executable, "-c", block.text + asked], ROOT)
    assert re.fullmatch(r"drop default None rules/demo\.yaml:\d+:\d+\n", output)


def test_the_table_of_commands_is_complete() -> None:
    done = run([str(Path(sys.executable).with_name("qfilter")), "--help"], ROOT)
    commands = re.findall(r"^  ([a-z]+)  ", done.partition("Commands:")[2], re.MULTILINE)
    table = README.read_text().partition("| command | what for |")[2].partition("\n\n")[0]
    assert commands
    assert [name for name in commands if not re.search(rf"`(?:qfilter )?{name}\b", table)] == []

"""`qfilter replay`: one line a packet, or one object, in the capture's order."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.lab.process import ROOT
from tests.lab.service import qfilter as command_line
from tests.unit.cli.conftest import Command
from tests.unit.queues.capture_files import SYN, pcap_header, pcap_record

CORPUS = ROOT.parent / "shared" / "corpus" / "tcpdump-raw.pcap"
ARP = bytes(12) + bytes.fromhex("0806") + bytes(28)
ETHERNET = bytes(12) + bytes.fromhex("0800")
STRANGER = SYN.replace(bytes([192, 0, 2, 1]), bytes([198, 51, 100, 8]))
SHORT = SYN[:30]


@pytest.fixture
def capture(policy: str) -> str:
    """Five frames on Ethernet: let in, ARP, let in by a limit, over the limit, cut in its TCP header."""
    frames = [
        pcap_record(ETHERNET + SYN, at=(1, 0)),
        pcap_record(ARP, at=(2, 0)),
        pcap_record(ETHERNET + STRANGER, at=(3, 0)),
        pcap_record(ETHERNET + STRANGER, at=(1_800, 0)),
        pcap_record(ETHERNET + SHORT, at=(1_801, 0), original=54),
    ]
    Path("five.pcap").write_bytes(pcap_header(1) + b"".join(frames))
    return "five.pcap"


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_object_a_packet_and_nothing_else(qfilter: Command, policy: str, capture: str) -> None:
    done = qfilter("replay", policy, capture, "--json", "--iif", "eth7")
    assert done.code == 0
    first, *rest = objects(done.out)
    assert first == {
        "n": 1,
        "timestamp": "1970-01-01T00:00:01.000000Z",
        "verdict": "accept",
        "reason": "rule",
        "detail": "",
        "rule": "ssh-known",
        "at": "policy.yaml:8:9",
        "length": 40,
    }
    assert [(row["n"], row["verdict"], row["reason"], row["rule"], row["at"]) for row in rest] == [
        (3, "accept", "rule", "ssh-slow", "policy.yaml:9:9"),
        (4, "drop", "default", None, "policy.yaml:2:18"),
        (5, "drop", "truncated", "ssh", "policy.yaml:5:5"),
    ]
    assert rest[-1]["detail"]
    assert done.err.splitlines()[0].split() == ["rule", "verdict", "packets", "bytes", "at"]
    assert done.err.endswith("frames without IPv4 or IPv6, passed over: 1\n")


def test_one_line_a_packet_then_the_table(qfilter: Command, policy: str, capture: str) -> None:
    done = qfilter("replay", policy, capture, "--iif", "eth7")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[:4] for line in lines[:4]] == [
        ["1", "00:00:01.000000", "ACCEPT", "input"],
        ["3", "00:00:03.000000", "ACCEPT", "input"],
        ["4", "00:30:00.000000", "DROP", "input"],
        ["5", "00:30:01.000000", "DROP", "input"],
    ]
    assert "eth7->-" in lines[0]
    assert lines[4].split() == ["rule", "verdict", "packets", "bytes", "at"]
    assert [line.split()[:4] for line in lines[5:] if "ssh" in line] == [
        ["ssh", "-", "3", "120"],
        ["ssh-known", "accept", "1", "40"],
        ["ssh-slow", "accept", "1", "40"],
    ]
    assert "verdicts: 2 accept, 2 drop" in lines


def test_limits_run_on_the_captures_clock(qfilter: Command, policy: str) -> None:
    records = [pcap_record(STRANGER, at=(seconds, 0)) for seconds in (0, 1, 3_600, 3_601)]
    Path("slow.pcap").write_bytes(pcap_header(101) + b"".join(records))
    done = qfilter("replay", policy, "slow.pcap", "--json")
    assert [row["verdict"] for row in objects(done.out)] == ["accept", "drop", "accept", "drop"]


def test_the_hook_decides_which_rules_look(qfilter: Command, policy: str, capture: str) -> None:
    done = qfilter("replay", policy, capture, "--hook", "output", "--oif", "lo", "--json")
    assert [row["at"] for row in objects(done.out)][1:3] == ["policy.yaml:9:9", "policy.yaml:2:32"]


def test_a_hook_without_a_default_is_a_fault_of_the_question(qfilter: Command, policy: str, capture: str) -> None:
    done = qfilter("replay", policy, capture, "--hook", "forward")
    assert (done.code, done.out) == (2, "")
    assert (
        "hook 'forward' has no default in this policy, and its packets never come: expected input, output" in done.err
    )


@pytest.mark.parametrize(
    "words", [("--hook", "input", "--oif", "lo"), ("--oif", "lo"), ("--hook", "output", "--iif", "lo")]
)
def test_an_interface_that_the_hook_does_not_have(
    qfilter: Command, policy: str, capture: str, words: tuple[str, ...]
) -> None:
    option = next(word for word in words if word.endswith("if"))
    for command in (("replay", policy, capture), ("explain", policy, "--capture", capture)):
        done = qfilter(*command, *words)
        assert (done.code, done.out) == (2, "")
        assert f"{option} 'lo': expected a hook that has it, " in done.err


def test_a_damaged_capture_yields_what_is_before_the_damage(qfilter: Command, policy: str, capture: str) -> None:
    Path(capture).write_bytes(Path(capture).read_bytes()[:-1])
    done = qfilter("replay", policy, capture, "--json")
    assert done.code == 1
    assert [row["n"] for row in objects(done.out)] == [1, 3, 4]
    assert "error: five.pcap: " in done.err
    assert "all packets" in done.err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_capture_that_is_none_has_no_table(qfilter: Command, policy: str, options: tuple[str, ...]) -> None:
    done = qfilter("replay", policy, policy, *options)
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: policy.yaml: ")


def test_a_capture_without_packets_is_none_the_less_one(qfilter: Command, policy: str) -> None:
    Path("empty.pcap").write_bytes(pcap_header(101))
    done = qfilter("replay", policy, "empty.pcap")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("verdicts: none\n")


_NO_INTERFACES = "warning: five.pcap names no interfaces, but rules look at iifname: expected --iif or --oif\n"


@pytest.mark.parametrize(
    ("old", "new", "options", "said"),
    [
        ("", "", (), _NO_INTERFACES),
        ("", "", ("--iif", "eth7"), ""),
        ("", "", ("--hook", "output"), ""),
        ("{iifname: lo}", "{ttl: 7}", (), ""),
        ("rules:", "queue: {exempt: [lo, established]}\nrules:", ("--iif", "eth7"), "warning: exempt packets (lo, est"),
    ],
)
def test_what_a_capture_cannot_tell(
    qfilter: Command, policy: str, capture: str, old: str, new: str, options: tuple[str, ...], said: str
) -> None:
    text = Path(policy).read_text().replace(old, new, 1) if old else Path(policy).read_text()
    Path(policy).write_text(text)
    done = qfilter("replay", policy, capture, *options)
    assert (done.code, len(done.err.splitlines())) == (0, 1 if said else 0)
    assert done.err.startswith(said)


def test_gzip(qfilter: Command, policy: str, capture: str) -> None:
    Path("five.pcap.gz").write_bytes(gzip.compress(Path(capture).read_bytes()))
    assert qfilter("replay", policy, "five.pcap.gz", "--json").out == qfilter("replay", policy, capture, "--json").out


def test_head_ends_it_in_silence(policy: str, capture: str) -> None:
    many = pcap_header(101) + 3_000 * pcap_record(SYN)
    Path("many.pcap").write_bytes(many)
    script = (
        f"set -o pipefail; {' '.join(command_line('replay', policy, 'many.pcap', '--json', '--iif', 'eth7'))} | head -2"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 2, "")


def test_colours_on_a_terminal_only_and_never_with_no_color(policy: str, capture: str) -> None:
    command = command_line("replay", policy, capture)
    assert "\x1b[32mACCEPT\x1b[0m" in on_a_terminal(*command)
    assert "\x1b" not in on_a_terminal(*command, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(*command, TERM="dumb")
    assert "\x1b[1;33mwarning: " in on_a_terminal(*command, stderr=True)
    assert "\x1b[1" not in on_a_terminal(*command, stderr=True, NO_COLOR="1")


def on_a_terminal(*command: str, stderr: bool = False, **environment: str) -> str:
    """What a program writes to a terminal of its own; the other output goes nowhere."""
    ours, its = pty.openpty()
    out, err = (subprocess.DEVNULL, its) if stderr else (its, subprocess.DEVNULL)
    surroundings = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    text = b""
    with subprocess.Popen(
        command, env=surroundings | {"TERM": "xterm"} | environment, stdout=out, stderr=err
    ) as running:
        os.close(its)
        with suppress(OSError):  # how a terminal says that its other end is closed
            while more := os.read(ours, 65_536):
                text += more
        os.close(ours)
        assert running.wait() == 0
    return text.decode()


def test_a_bar_on_a_terminal_when_it_takes_long(policy: str) -> None:
    Path("many.pcap").write_bytes(pcap_header(101) + 200 * pcap_record(SYN))
    code = (
        "import sys; from qfilter.cli import main, replay; replay._PATIENCE = float(sys.argv.pop(1)); "
        "sys.argv[0] = 'qfilter'; main()"
    )

    def seen(patience: str) -> str:
        words = (sys.executable, "-c", code, patience, "replay", policy, "many.pcap", "--json")
        return on_a_terminal(*words, stderr=True)

    bar = re.compile(r"replay .* \d+ packets")
    assert bar.search(seen("0"))
    assert not bar.search(seen("3600"))
    assert '"verdict"' not in seen("0")


@pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not there")
def test_the_corpus_twice_gives_the_same_bytes(qfilter: Command) -> None:
    words = ("replay", ROOT / "rules" / "demo.yaml", CORPUS, "--hook", "forward", "--json")
    first, second = qfilter(*words), qfilter(*words)
    rows = objects(first.out)
    assert (first.code, len(rows), [row["n"] for row in rows]) == (0, 5_452, list(range(1, 5_453)))
    assert {row["reason"] for row in rows} <= {"rule", "default", "malformed", "truncated", "fragment"}
    assert (first.out, first.err) == (second.out, second.err)

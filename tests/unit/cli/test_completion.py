"""`qfilter completion`: the script, and what it asks for."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.lab.service import qfilter as command_line
from tests.unit.cli.conftest import Command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_for_qfilter(qfilter: Command, shell: str) -> None:
    done = qfilter("completion", shell)
    assert done.code == 0
    assert "_QFILTER_COMPLETE" in done.out


def test_bash_takes_the_script(qfilter: Command) -> None:
    script = qfilter("completion", "bash").out
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("qfilter re", {"replay", "remove", "reload"}),
        ("qfilter run --ba", {"--backend"}),
        ("qfilter run p.yaml --backend ipt", {"iptables-legacy", "iptables-nft"}),
        ("qfilter replay p.yaml c.pcap --hook in", {"input"}),
    ],
)
def test_what_is_offered(words: str, offered: set[str]) -> None:
    surroundings = {
        "_QFILTER_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(command_line(), env=os.environ | surroundings, capture_output=True, text=True, check=False)
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == offered

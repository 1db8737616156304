"""The commands with sudo of README.md and the operator's guide, each run for real, and for what it promises.

`sudo` is left out, and all but the private lab's run inside a namespace: this host's own rules are never touched.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import documents
from tests.documents import GUIDE, README
from tests.kernel.firewall_rulesets import snapshot
from tests.lab.clients import QUICK, Outcome, ping
from tests.lab.process import ROOT, Running, run
from tests.lab.service import READY, qfilter, serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("root", "netns", "ipv6", "nfqueue", "ping", "curl")

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway that qfilter can be tried on, and the folder with the policies, which is the current one."""

    lab: Lab
    require: Callable[..., None]

    def start(self, *command: str) -> Running:
        return self.lab.gateway.start(*command)

    def run(self, *command: str) -> str:
        return self.lab.gateway.run(*command).stdout

    def answers(self, family: int, *, timeout: float = QUICK) -> bool:
        gateway = self.lab.gateway.address(family)
        return ping(self.lab.client, gateway, timeout=timeout).outcome is Outcome.ANSWERED

    def standing(self) -> str:
        return snapshot(self.lab.gateway)


@pytest.fixture
def stage(lab: Lab, require: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    (tmp_path / "first.yaml").write_text(documents.blocks(README, "yaml")[0].text)
    (tmp_path / "policy.yaml").write_text(documents.blocks(GUIDE, "yaml")[0].text)
    monkeypatch.chdir(tmp_path)
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "HOST", "POLICY"):  # of the `make test` that we may be part of
        monkeypatch.delenv(name, raising=False)
    return Stage(lab, require)


def words(line: str) -> list[str]:
    """The command without sudo, with the qfilter that is installed beside this Python."""
    found = shlex.split(line.removeprefix("sudo "))
    ours = str(Path(sys.executable).with_name("qfilter"))
    return [ours if word in (".venv/bin/qfilter", "qfilter") else word for word in found]


def the_private_lab(stage: Stage, line: str) -> None:
    stage.require("rust")
    make, *rest = words(line)
    said = run([make, "-C", str(ROOT), *rest], timeout=120.0).stdout
    assert "all as rules/demo.yaml promises" in said


def what_ci_runs(stage: Stage, line: str) -> None:
    assert " ".join(words(line)) in (ROOT / ".ci" / "run").read_text()


def rules_are_printed_and_are_the_exact_ones(stage: Stage, line: str) -> None:
    before = stage.standing()
    printed = stage.run(*words(line))
    assert stage.standing() == before
    stage.run("sh", "-ec", printed)
    said = stage.lab.gateway.run(*qfilter("status", "first.yaml"), check=False).stdout
    differs = [text for text in said.splitlines() if text.startswith("differs: ")]
    assert differs == [
        "differs: no service says that first.yaml is in force",
        "differs: no process holds queue 0: every packet on input is dropped",
    ]


def in_force_until_ctrl_c(stage: Stage, line: str) -> None:
    stage.require("rust")
    before = stage.standing()
    policy = Path("first.yaml").resolve()
    printed = stage.run(*qfilter("install", "--print", policy))
    make, *rest = (word.replace("=first.yaml", f"={policy}") for word in words(line))
    for number in (signal.SIGINT, signal.SIGTERM):
        with stage.start(make, "-C", str(ROOT), *rest) as running:
            running.wait_for(READY)
            assert not stage.answers(4)
            assert printed in running.output.partition('"type":"start"')[0], "what is installed is said first"
            os.killpg(running.pid, number)  # as a terminal does: to make, its shell and qfilter
            running.wait()
        assert stage.lab.gateway.queues() == {}
        assert stage.standing() == before
        assert stage.answers(4)


def status_compares_what_stands_with_the_policy(stage: Stage, line: str) -> None:
    with serving(stage.lab.gateway, Path("first.yaml")):
        said = stage.run(*words(line))
        assert "filter QFILTER-IN on input" in said
        assert "queue 0: held by process" in said
        stage.run("iptables", "-I", "INPUT", "-p", "icmp", "-j", "ACCEPT")
        done = stage.lab.gateway.run(*words(line), check=False)
        assert done.returncode == 1
        assert "jumped to from INPUT rule 2, expected only INPUT rule 1" in done.stdout


def everything_of_qfilters_goes(stage: Stage, line: str) -> None:
    before = stage.standing()
    with stage.start(*qfilter("run", "first.yaml")) as running:
        running.wait_for(READY)
        running.kill()
    assert not any(map(stage.answers, FAMILIES))
    assert "removed" in stage.run(*words(line))
    assert stage.standing() == before
    assert all(stage.answers(family, timeout=5.0) for family in FAMILIES)


def the_rules_end_with_the_time(stage: Stage, line: str) -> None:
    """SIGTERM to `timeout` goes to its command: what it does itself when the time is over."""
    before = stage.standing()
    with stage.start(*words(line)) as running:
        running.wait_for(READY)
        running.stop(signal.SIGTERM)
    assert stage.standing() == before


def opens_by_hand(family: int) -> Callable[[Stage, str], None]:
    def tried(stage: Stage, line: str) -> None:
        stage.run(*qfilter("install", "first.yaml"))
        assert not stage.answers(family)
        stage.run(*words(line))
        assert stage.answers(family, timeout=5.0)

    return tried


def nft_opens_by_hand(stage: Stage, line: str) -> None:
    stage.require("nft-queue")
    stage.run(*qfilter("install", "first.yaml", "--backend", "nft"))
    assert not any(map(stage.answers, FAMILIES))
    stage.run(*shlex.split(line.removeprefix("sudo ")))
    assert all(stage.answers(family, timeout=5.0) for family in FAMILIES)


def reloaded(stage: Stage, line: str) -> None:
    other = str(Path("policy.yaml").resolve())
    with serving(stage.lab.gateway, Path("first.yaml")) as running:
        said = stage.run(*(other if word.endswith("/other.yaml") else word for word in words(line)))
        file = other if "other.yaml" in line else "first.yaml"
        assert said.splitlines()[-1].startswith(f"reloaded {file}")
        running.wait_for(f"qfilter: reloaded {file}")


def counted_so_far(stage: Stage, line: str) -> None:
    with serving(stage.lab.gateway, Path("first.yaml")):
        assert not stage.answers(4)
        said = stage.run(*words(line))
        assert '"defaults": {' in said if "json" in line else "default input" in said


def changes_a_set(*promised: str) -> Callable[[Stage, str], None]:
    """With one element in the set that the guide's section on dynamic sets has."""

    def tried(stage: Stage, line: str) -> None:
        (text,) = (block.text for block in documents.blocks(GUIDE, "yaml") if "knockers: {" in block.text)
        Path("knocking.yaml").write_text(f"version: 1\ndefault: {{input: drop}}\n{text}")
        with serving(stage.lab.gateway, Path("knocking.yaml")):
            if " add " not in line:
                stage.run(*qfilter("set", "add", "knockers", "203.0.113.9"))
            said = stage.run(*words(line))
            assert all(text in said for text in promised)

    return tried


TRIED: dict[str, Callable[[Stage, str], None]] = {
    # README.md
    "sudo make run": the_private_lab,
    "sudo make test": what_ci_runs,
    "sudo .venv/bin/qfilter install first.yaml --print": rules_are_printed_and_are_the_exact_ones,
    "sudo make run HOST=1 POLICY=first.yaml": in_force_until_ctrl_c,
    "sudo .venv/bin/qfilter status first.yaml": status_compares_what_stands_with_the_policy,
    "sudo .venv/bin/qfilter remove": everything_of_qfilters_goes,
    "sudo .venv/bin/qfilter reload": reloaded,
    "sudo .venv/bin/qfilter stats": counted_so_far,
    # docs/operators-guide.md
    "sudo timeout 120 qfilter run policy.yaml": the_rules_end_with_the_time,
    "sudo qfilter reload": reloaded,
    "sudo qfilter reload /etc/qfilter/other.yaml": reloaded,
    "sudo qfilter stats --format json": counted_so_far,
    "sudo qfilter set list": changes_a_set("knockers  address", "1 of 10,000 added"),
    "sudo qfilter set add knockers 203.0.113.9 --timeout 1h": changes_a_set("1 added"),
    "sudo qfilter set list knockers": changes_a_set("203.0.113.9  for "),
    "sudo qfilter set delete knockers 203.0.113.9": changes_a_set("1 deleted"),
    "sudo qfilter set flush knockers": changes_a_set("1 deleted"),
    "sudo qfilter remove": everything_of_qfilters_goes,
    "sudo iptables -F QFILTER-IN": opens_by_hand(4),
    "sudo ip6tables -F QFILTER-IN": opens_by_hand(6),
    "sudo nft delete table inet qfilter": nft_opens_by_hand,
}


def shown() -> list[str]:
    commands = [line for file in (README, GUIDE) for line in documents.commands(file)]
    return [line for line in commands if line.startswith("sudo ")]


@pytest.mark.parametrize("line", shown())
def test_a_command_does_what_it_promises(line: str, stage: Stage) -> None:
    assert line in TRIED, f"nobody has said here how to try {line!r}"
    TRIED[line](stage, line)


def test_nothing_is_tried_that_is_not_shown() -> None:
    assert TRIED.keys() == set(shown())


@pytest.mark.needs("rust")
def test_nothing_is_put_in_force_that_could_not_be_said_first(stage: Stage) -> None:
    before = stage.standing()
    with stage.start("make", "-C", str(ROOT), "run", "HOST=1", "POLICY=/nonexistent.yaml") as running:
        assert running.wait(timeout=60.0)
    assert running.output.count("/nonexistent.yaml:1:1: ") == 1
    assert stage.standing() == before

"""The machines of the lab, asked by ssh from inside the lab's namespaces, and what their firewall has counted."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

QFILTER = "/srv/qfilter/.venv/bin/qfilter"
SERVER = {4: "198.51.100.2", 6: "2001:db8:2::2"}
ATTACKER = {4: "192.0.2.66", 6: "2001:db8:1::66"}
"""Addresses of the client that only the attacks use: whoever is blocked for them is not the client itself."""


class MachineError(Exception):
    """A command failed inside a machine."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of client, firewall and server."""

    name: str
    config: Path
    """What `vagrant ssh-config` says."""

    def ask(self, script: str, *, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Runs a shell script as root, to its end."""
        command = ["ssh", "-F", str(self.config), self.name, "sudo bash -c " + shlex.quote(script)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, script: str, *, timeout: float = 300.0) -> str:
        """The standard output of a script that must succeed. Raises MachineError."""
        done = self.ask(script, timeout=timeout)
        if done.returncode:
            raise MachineError(f"{self.name}: {script}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, script: str) -> subprocess.Popen[str]:
        """A script that goes on; the caller ends it."""
        command = ["ssh", "-F", str(self.config), self.name, "sudo bash -c " + shlex.quote(script)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def counts(firewall: Machine) -> dict[str, int]:
    """Packets so far, by rule, by `default HOOK` and by failure cause."""
    report = json.loads(firewall.run(f"{QFILTER} stats --format json"))["report"]
    rules = {rule["rule"]: rule["tally"]["packets"] for rule in report["rules"]}
    defaults = {f"default {hook}": tally["tally"]["packets"] for hook, tally in report["defaults"].items()}
    causes = {cause: tally["tally"]["packets"] for cause, tally in report["causes"].items()}
    return rules | defaults | causes


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 300.0) -> None:
    """Raises MachineError when the condition does not come true in `timeout` seconds; emulated machines are slow."""
    until = monotonic() + timeout
    while not condition():
        if monotonic() > until:
            raise MachineError(f"after {timeout:.0f} s: {what}")
        sleep(1)

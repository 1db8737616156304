"""The machines of the lab, asked by ssh from inside the lab's namespaces, and what their firewall has counted."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.process import Running, run

QFILTER = "/srv/qfilter/.venv/bin/qfilter"
SERVER = {4: "198.51.100.2", 6: "2001:db8:2::2"}
GATEWAY = {4: "192.0.2.1", 6: "2001:db8:1::1"}
ATTACKER = {4: "192.0.2.66", 6: "2001:db8:1::66"}
"""Addresses of the client that only the attacks use: whoever is blocked for them is not the client itself."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of client, firewall and server."""

    name: str
    config: Path
    """What `vagrant ssh-config` says."""

    def ask(self, script: str, *, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Runs a shell script as root, to its end, and does not mind how that is."""
        return run(self._command(script), check=False, timeout=timeout)

    def run(self, script: str, *, timeout: float = 300.0) -> str:
        """The standard output of a script that must succeed. Raises LabError."""
        return run(self._command(script), timeout=timeout).stdout

    def start(self, script: str) -> Running:
        """A script that goes on; use it in a `with`."""
        return Running(self._command(script))

    def _command(self, script: str) -> list[str]:
        return ["ssh", "-F", str(self.config), self.name, f"sudo bash -c {shlex.quote(script)}"]


def counts(firewall: Machine) -> dict[str, int]:
    """Packets so far, by rule, by `default HOOK` and by failure cause."""
    report = json.loads(firewall.run(f"{QFILTER} stats --format json"))["report"]
    rules = {rule["rule"]: rule["tally"]["packets"] for rule in report["rules"]}
    defaults = {f"default {hook}": tally["tally"]["packets"] for hook, tally in report["defaults"].items()}
    causes = {cause: tally["tally"]["packets"] for cause, tally in report["causes"].items()}
    return rules | defaults | causes

"""Rules that stand while nobody holds their queue are no sound state: `install` and `status` say so."""

from __future__ import annotations

import json
import re

import pytest

from tests.kernel.firewall_rulesets import snapshot
from tests.kernel.running import POLICY, PolicyFile, command
from tests.lab.service import READY, qfilter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft")

NFT = ("--backend", "iptables-nft")
DROPPED = "no process holds queue 0: every packet on forward is dropped"


def test_status_after_install_and_after_kill_9(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY)
    done = command(lab.gateway, "install", policy, *NFT)
    assert done.stderr == (
        "nobody holds queue 0: everything on forward is dropped until `qfilter run --no-install` serves; "
        "undo: `qfilter remove`\n"
    )
    assert done.stdout.splitlines() == [
        "iptables-nft ipv4: filter QFILTER-FWD and its jump made",
        "iptables-nft ipv6: filter QFILTER-FWD and its jump made",
        "installed by iptables-nft",
    ]
    said = command(lab.gateway, "status", policy, *NFT, check=False)
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, f"differs: {DROPPED}")

    with lab.gateway.start(*qfilter("run", policy, *NFT)) as running:
        running.wait_for(READY)
        assert "no process" not in command(lab.gateway, "status", policy, *NFT).stdout
        assert "no process" not in command(lab.gateway, "status").stdout
        assert command(lab.gateway, "status", policy, *NFT).returncode == 0
        running.kill()
    told = command(lab.gateway, "status", policy, *NFT, "--format", "json", check=False)
    unanswered = f"no service says that {policy} is in force"
    assert (told.returncode, json.loads(told.stdout)["differences"]) == (1, [unanswered, DROPPED])
    alone = command(lab.gateway, "status", check=False)
    assert (alone.returncode, alone.stdout.splitlines()[-1]) == (1, f"differs: {DROPPED}")


def test_a_bypass_and_several_queues(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY + "on_failure: {no_listener: accept}\nqueue: {number: 2-3}\n")
    done = command(lab.gateway, "install", policy, *NFT)
    assert done.stderr == (
        "nobody holds queues 2, 3: everything on forward passes unjudged until `qfilter run --no-install` serves; "
        "undo: `qfilter remove`\n"
    )
    said = command(lab.gateway, "status", policy, *NFT, check=False)
    assert (said.returncode, said.stdout.splitlines()[-2:]) == (
        1,
        [
            f"differs: no process holds queue {number}: every packet on forward that it gets passes unjudged"
            for number in (2, 3)
        ],
    )


def test_the_rules_of_another_service_are_not_replaced(lab: Lab, policy_file: PolicyFile) -> None:
    """Two containers in one network namespace: each has a /run, and so a lock, of its own."""
    with lab.gateway.start(*qfilter("run", policy_file(POLICY), *NFT)) as first:
        first.wait_for(READY)
        standing = snapshot(lab.gateway)
        other = policy_file(POLICY + "queue: {number: 5}\n")
        words = " ".join(map(str, qfilter("run", other, "--format", "none", *NFT)))
        done = lab.gateway.run("sh", "-c", f"mount -t tmpfs none /run && exec {words}", check=False)
        assert done.returncode == 4
        assert re.search(r"feed queue 0, which process \d+ \(\S+\) holds, .*: end that process first", done.stderr)
        assert snapshot(lab.gateway) == standing
        first.kill()
    with lab.gateway.start(*qfilter("run", other, *NFT)) as second:
        second.wait_for(READY)
        assert second.stop() == 0

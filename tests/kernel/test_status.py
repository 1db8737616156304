"""`qfilter status POLICY`: its exit code says whether that policy is in force and everything stands for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qfilter.netlink.queues import bound_queues
from tests.kernel.running import POLICY, PolicyFile, command, in_force
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft", "iptables-legacy")


def differences(lab: Lab, *words: str | Path) -> tuple[int, list[str]]:
    """What `status` ends with, and what it says differs."""
    done = command(lab.gateway, "status", *words, "--format", "json", check=False)
    found: list[str] = json.loads(done.stdout)["differences"]
    return done.returncode, found


def test_a_file_that_was_edited_and_not_put_in_force(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY)
    with serving(lab.gateway, policy):
        assert differences(lab, policy) == (0, [])
        policy_file(POLICY + "# edited\n")
        service = json.loads(command(lab.gateway, "status", "--format", "json").stdout)["service"]
        code, (line,) = differences(lab, policy)
        assert (code, line.partition(", expected ")[0]) == (
            1,
            f"the policy in force is another one (digest {service['policy'][:12]}",
        )
        assert line.endswith(f"), since {service['since']}: qfilter reload {policy}")
        command(lab.gateway, "reload")
        assert differences(lab, policy) == (0, [])


def test_the_tool_of_the_service_is_the_one_that_is_compared(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY)
    for backend in ("iptables-legacy", "iptables-nft"):
        with serving(lab.gateway, policy, "--backend", backend):
            assert differences(lab, policy) == (0, [])
        command(lab.gateway, "install", policy, "--backend", backend)
        assert len(differences(lab, policy)[1]) == 2  # nobody serves, nobody holds the queue
        command(lab.gateway, "remove")
    with serving(lab.gateway, policy, "--backend", "iptables-legacy"):
        assert differences(lab, policy, "--backend", "iptables-nft")[0] == 1
        policy_file(POLICY + "queue: {backend: iptables-nft}\n")
        code, found = differences(lab, policy)
        assert (code, any(line.startswith("iptables-legacy ") for line in found)) == (1, True)


def test_who_is_not_there_to_answer(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    policy = policy_file(POLICY)
    assert differences(lab) == (0, [])
    assert differences(lab, "--control", tmp_path / "none.sock") == (1, ["the service does not answer"])
    code, found = differences(lab, policy)
    assert (code, found[0]) == (1, f"no service says that {policy} is in force")
    with in_force(lab.gateway, POLICY, install=True):
        with lab.gateway.entered():
            assert list(bound_queues()) == [0]
        assert differences(lab) == (0, [])
        assert differences(lab, policy) == (1, [f"no service says that {policy} is in force"])

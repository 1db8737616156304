"""The policy is edited on the firewall and reloaded, wrongly too; the firewall is started again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.process import wait_until
from vagrant.suite.machines import GATEWAY, QFILTER, SERVER, Machine, counts
from vagrant.suite.test_attacks import counted, nothing_arrives
from vagrant.suite.test_traffic import page

POLICY = "/etc/qfilter/policy.yaml"
KNOCK = """
import socket, sys, time
four, six = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
while True:
    for door, target in ((four, sys.argv[1]), (six, sys.argv[2])):
        try: door.sendto(b"knock", (target, 9))
        except OSError: pass
    time.sleep(0.01)
"""
BEFORE = "/etc/qfilter/before.yaml"
PING = f"ping -c 1 -W 5 {SERVER[4]}"


def digest(firewall: Machine) -> str:
    """Of the policy in force, whatever its file says now."""
    found = re.search(r"\bpolicy ([0-9a-f]{64})\b", firewall.ask(f"{QFILTER} status {BEFORE}").stdout)
    assert found is not None
    return found[1]


@pytest.fixture
def edited(firewall: Machine) -> Iterator[Machine]:
    """The firewall; afterwards its policy is the one it had."""
    firewall.run(f"cp {POLICY} {BEFORE}")
    yield firewall
    firewall.run(f"mv {BEFORE} {POLICY} && {QFILTER} reload")


def test_it_is_in_force_as_systemd_started_it(firewall: Machine) -> None:
    assert firewall.run("systemctl is-active qfilter") == "active\n"
    assert firewall.ask(f"{QFILTER} status {POLICY}").returncode == 0


def test_a_mistake_changes_nothing(edited: Machine, client: Machine) -> None:
    before = digest(edited)
    edited.run(f"sed -i 's/dport: $http/dport: $htpp/' {POLICY}")
    said = edited.ask(f"{QFILTER} reload")
    assert said.returncode == 1
    assert re.search(rf"{POLICY}:\d+:\d+: error: .*\$htpp", said.stderr), said.stderr
    assert digest(edited) == before
    assert client.run(page(4)) == "hello\n"


def test_an_edit_holds_from_the_next_packet_on(edited: Machine, client: Machine, server: Machine) -> None:
    assert client.ask(page(4)).returncode == 0
    closed = "/id: web,/s/scope: flow, verdict: accept/verdict: drop/; /^  tunnel:/,/0010 0001/d; /^tests:/,$d"
    edited.run(f"sed -i '{closed}' {POLICY}")
    edited.run(f"{QFILTER} reload")
    with nothing_arrives(server, "tcp dst port 80"), counted(edited, "web"):
        assert client.ask(page(4, seconds=5)).returncode == 28
    assert client.ask(PING).returncode == 0


def test_after_a_boot_nothing_passes_that_the_policy_denies(
    client: Machine, server: Machine, firewall: Machine
) -> None:
    """Datagrams knock at a closed port a hundred times a second, in both families, before, during and after the boot.

    The client keeps the firewall's link-layer address: a neighbour that it had to find again first would be spared the
    first second.
    """
    booted = firewall.run("cat /proc/sys/kernel/random/boot_id")
    mac = firewall.run("cat /sys/class/net/lan/address").strip()
    for gateway in GATEWAY.values():
        client.run(f"ip neighbour replace {gateway} lladdr {mac} dev lan nud permanent")
    knock = f"exec timeout 900 python3 -c '{KNOCK}' {SERVER[4]} {SERVER[6]}"
    with nothing_arrives(server, "udp dst port 9"), client.start(knock):
        try:
            _wait_for_knocks(firewall)
            firewall.ask("systemctl reboot")
            wait_until(lambda: _is_served_again(firewall, booted), "the firewall should serve again", timeout=600)
            _wait_for_knocks(firewall)
            assert client.run(page(4)) == "hello\n"
            assert client.run(page(6)) == "hello\n"
        finally:
            client.ask("pkill -f [S]OCK_DGRAM")
            for gateway in GATEWAY.values():
                client.run(f"ip neighbour delete {gateway} dev lan")
    rules = json.loads(firewall.run("nft --json list ruleset"))["nftables"]
    assert any("QFILTER-FWD" in json.dumps(each) for each in rules)


def _wait_for_knocks(firewall: Machine) -> None:
    before = _denied(firewall)
    wait_until(lambda: _denied(firewall) > before + 100, "the knocking should reach the firewall", timeout=300)


def _denied(firewall: Machine) -> int:
    return counts(firewall)["default forward"]


def _is_served_again(firewall: Machine, booted: str) -> bool:
    said = firewall.ask(
        f"cat /proc/sys/kernel/random/boot_id && systemctl is-active qfilter && {QFILTER} status {POLICY}"
    )
    return said.returncode == 0 and not said.stdout.startswith(booted)

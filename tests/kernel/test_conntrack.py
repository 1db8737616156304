"""What the kernel's connection tracking says of a packet, through real queues, where the kernel can say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.running import PORT, PolicyFile, ask, command, events, is_installed
from tests.lab.clients import QUICK, Outcome, udp_ask
from tests.lab.probes import State, probe
from tests.lab.servers import udp_echo
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft")

POLICY = """version: 1
default: {forward: drop}
rules:
  - {id: invalid, match: {ct.state: invalid}, log: true, verdict: drop}
  - {id: marked, match: {ct.state: established, ct.mark: 0x7}, log: true, verdict: accept}
  - {id: first, match: {ct.state: new, protocol: udp, dport: 9}, log: true, verdict: accept}
"""
TOOLS = {4: "iptables-nft", 6: "ip6tables-nft"}
engines = pytest.mark.parametrize("engine", ["native", "reference"])
families = pytest.mark.parametrize("family", [4, 6])


def judged(log: Path) -> list[tuple[str, str]]:
    return [(event["rule"], event["verdict"]) for event in events(log, "verdict")]


@pytest.mark.needs("nfqueue-conntrack", "conntrack")
@engines
@families
def test_states_and_marks_of_connections(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, engine: str, family: int
) -> None:
    log = tmp_path / "events.json"
    tool = TOOLS[family]
    lab.gateway.run(*f"{tool} -t mangle -A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --set-mark 7".split())
    with (
        udp_echo(lab.server, PORT),
        serving(lab.gateway, policy_file(POLICY), "--events", str(log), "--engine", engine) as service,
    ):
        assert ask(lab.client, lab.server, family) is Outcome.ANSWERED
        lab.gateway.run(tool, *f"-t raw -A PREROUTING -p udp --dport {PORT} -j CT --notrack".split())
        lost = udp_ask(lab.client, lab.server.address(family), PORT, timeout=QUICK)
        assert lost.outcome is Outcome.TIMED_OUT
        service.stop()
    assert judged(log) == [("first", "accept"), ("marked", "accept"), ("invalid", "drop")]


@pytest.mark.needs("nfqueue-conntrack")
@engines
def test_without_tracking_every_packet_is_invalid(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, engine: str
) -> None:
    log = tmp_path / "events.json"
    with serving(lab.gateway, policy_file(POLICY), "--events", str(log), "--engine", engine) as service:
        assert udp_ask(lab.client, lab.server.address(4), PORT, timeout=QUICK).outcome is Outcome.TIMED_OUT
        service.stop()
    assert judged(log) == [("invalid", "drop")]


@pytest.mark.skipif(probe("nfqueue-conntrack").state is State.WORKS, reason="this kernel can say it")
@engines
def test_a_kernel_that_cannot_say_it_refuses_the_policy(lab: Lab, policy_file: PolicyFile, engine: str) -> None:
    refused = command(lab.gateway, "run", policy_file(POLICY), "--engine", engine, check=False)
    assert refused.returncode == 4
    for field in ("ct.state", "ct.mark"):
        assert (
            f"field '{field}': no packet from this queue carries it, which takes a kernel with CONFIG_"
            in refused.stderr
        )
    assert not is_installed(lab.gateway)
    assert lab.gateway.queues() == {}

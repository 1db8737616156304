"""What users of other queue firewalls report, on a real kernel."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.kernel.running import PolicyFile, events, pause
from tests.lab import dns
from tests.lab.process import Running, wait_until
from tests.lab.servers import dns_server
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

NAME = "www.example.net"
RECORDS = {NAME: ["192.0.2.80", "2001:db8::80"]}
LOOK_UPS, FIRST_PORT = 50, 20_000
POLICY = """version: 1
default: {forward: drop}
queue: {backend: iptables-legacy}
rules:
  - {id: question, match: {protocol: udp, dport: 53}, verdict: accept}
  - {id: answer, match: {protocol: udp, sport: 53}, verdict: accept}
"""
TOOLS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
TRACKED = "-t mangle -A PREROUTING -m conntrack --ctstate NEW"
MASQUERADE = "-t nat -A POSTROUTING -o wan -j MASQUERADE"


def look_up(lab: Lab, service: Running, family: int, port: int) -> set[str]:
    """The addresses of NAME, asked as libc does: A and AAAA from one socket, which both wait for their verdict."""
    with lab.client.new_socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(5.0)
        # A port that the kernel chose could be an earlier look-up's, whose connection is established by now.
        resolver.bind(("", port))
        resolver.connect((lab.server.address(family), 53))
        pause(service)
        for number, asked in enumerate((4, 6)):
            resolver.send(dns.question(NAME, asked, number))
        wait_until(lambda: lab.gateway.queues()[0].waiting == 2, "both questions should be queued")
        service.send(signal.SIGCONT)
        return {address for _ in range(2) for address in dns.addresses(resolver.recv(512))}


@pytest.mark.parametrize("kernel_rule", [TRACKED, MASQUERADE], ids=["tracked", "masquerade"])
@pytest.mark.parametrize(("exempt", "judged"), [("[]", 4), ("[established]", 2)])
@pytest.mark.parametrize("family", [4, 6])
def test_two_questions_of_one_connection_that_is_not_yet_confirmed(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, kernel_rule: str, exempt: str, judged: int, family: int
) -> None:
    """Both are first packets to connection tracking, and neither may be lost (kube-network-policies #12)."""
    lab.gateway.run(TOOLS[family], *kernel_rule.split())
    path = tmp_path / "events"
    policy = policy_file(POLICY.replace("queue: {", f"queue: {{exempt: {exempt}, "))
    with serving(lab.gateway, policy, "--events", str(path)) as service, dns_server(lab.server, RECORDS) as server:
        for port in range(FIRST_PORT, FIRST_PORT + LOOK_UPS):
            assert look_up(lab, service, family, port) == set(RECORDS[NAME])
        assert len(server.received) == 2 * LOOK_UPS
        service.stop()
        (stop,) = events(path, "stop")
    assert stop["verdicts"] == {kind: judged * LOOK_UPS if kind == "accept" else 0 for kind in stop["verdicts"]}
    assert stop["queues"][0]["errors"] == {}

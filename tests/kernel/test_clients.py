"""Each client of the lab tells the outcomes apart. The firewall here is the kernel's own, not qfilter."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab.clients import PATIENT, QUICK, Outcome, curl, http_get, ping, resolve, scan, tcp_connect, udp_ask
from tests.lab.scan import PortState
from tests.lab.servers import dns_server, http_server, tcp_server, udp_counter, udp_echo
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("iptables-legacy", "ping", "curl")
families = pytest.mark.parametrize("family", [4, 6])

PROHIBITED = {4: "icmp-admin-prohibited", 6: "icmp6-adm-prohibited"}


@pytest.fixture
def served(lab: Lab) -> Iterator[Lab]:
    """Port 80 is HTTP, 7 echo, 9 silent, 53 DNS, 22 a plain TCP port."""
    records = {"www.lab": [lab.server.ipv4, lab.server.ipv6], "four.lab": [lab.server.ipv4]}
    server = lab.server
    with (
        http_server(server, 80),
        tcp_server(server, 22),
        udp_echo(server, 7),
        udp_counter(server, 9),
        dns_server(server, records),
    ):
        yield lab


def refuse(lab: Lab, family: int, *rule: str) -> None:
    """A rule in the gateway's FORWARD chain."""
    tool = {4: "iptables-legacy", 6: "ip6tables-legacy"}[family]
    lab.gateway.run(tool, "-A", "FORWARD", *rule)


@families
def test_what_the_clients_see_without_a_firewall(served: Lab, family: int) -> None:
    client, server = served.client, served.server.address(family)
    assert ping(client, server).outcome is Outcome.ANSWERED
    assert tcp_connect(client, server, 22).outcome is Outcome.CONNECTED
    assert tcp_connect(client, server, 81).outcome is Outcome.REFUSED
    assert http_get(client, server).answer == "hello from the server\n"
    assert curl(client, server).answer == "hello from the server\n"
    assert curl(client, server, 81).outcome is Outcome.REFUSED
    assert udp_ask(client, server, 7, b"round and back").answer == "round and back"
    assert udp_ask(client, server, 8).outcome is Outcome.REFUSED
    assert udp_ask(client, server, 9, timeout=QUICK).outcome is Outcome.TIMED_OUT
    assert scan(client, server, [22, 80, 443]) == {22: PortState.OPEN, 80: PortState.OPEN, 443: PortState.CLOSED}


@families
def test_look_ups(served: Lab, family: int) -> None:
    server = served.server
    assert resolve(served.client, server.address(family), "www.lab", 4).answer == server.ipv4
    assert resolve(served.client, server.address(family), "www.lab", 6).answer == server.ipv6
    assert resolve(served.client, server.address(family), "four.lab", 6).count == 0
    assert resolve(served.client, server.address(family), "nowhere.lab").outcome is Outcome.ANSWERED


Client = Callable[[Lab, str, float], Outcome]
CLIENTS: dict[str, Client] = {
    "ping": lambda lab, server, timeout: ping(lab.client, server, timeout=timeout).outcome,
    "tcp": lambda lab, server, timeout: tcp_connect(lab.client, server, 22, timeout=timeout).outcome,
    "http": lambda lab, server, timeout: http_get(lab.client, server, timeout=timeout).outcome,
    "curl": lambda lab, server, timeout: curl(lab.client, server, timeout=timeout).outcome,
    "udp": lambda lab, server, timeout: udp_ask(lab.client, server, 7, timeout=timeout).outcome,
    "dns": lambda lab, server, timeout: resolve(lab.client, server, "www.lab", timeout=timeout).outcome,
}
clients = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())


@families
@clients
def test_an_icmp_error_is_unreachable(served: Lab, family: int, client: Client) -> None:
    refuse(served, family, "-j", "REJECT", "--reject-with", PROHIBITED[family])
    assert client(served, served.server.address(family), PATIENT) is Outcome.UNREACHABLE


@families
@clients
def test_silence_is_timed_out(served: Lab, family: int, client: Client) -> None:
    refuse(served, family, "-j", "DROP")
    assert client(served, served.server.address(family), QUICK) is Outcome.TIMED_OUT


@families
def test_a_reset_is_refused(served: Lab, family: int) -> None:
    refuse(served, family, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
    server = served.server.address(family)
    assert tcp_connect(served.client, server, 22).outcome is Outcome.REFUSED
    assert curl(served.client, server).outcome is Outcome.REFUSED


@families
def test_a_connection_that_is_cut_is_reset(served: Lab, family: int) -> None:
    refuse(served, family, "-p", "tcp", "--tcp-flags", "PSH", "PSH", "-j", "REJECT", "--reject-with", "tcp-reset")
    server = served.server.address(family)
    assert http_get(served.client, server).outcome is Outcome.RESET
    assert curl(served.client, server).outcome is Outcome.RESET


@families
def test_a_scan_tells_closed_from_filtered_from_prohibited(served: Lab, family: int) -> None:
    refuse(served, family, "-p", "tcp", "--dport", "23", "-j", "DROP")
    refuse(served, family, "-p", "tcp", "--dport", "24", "-j", "REJECT", "--reject-with", PROHIBITED[family])
    found = scan(served.client, served.server.address(family), [22, 23, 24, 25])
    assert found == {
        22: PortState.OPEN,
        23: PortState.FILTERED,
        24: PortState.PROHIBITED,
        25: PortState.CLOSED,
    }

"""The policies that ship, as they are, on real kernel queues between real clients and servers."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from qfilter.engine.build import build
from tests.lab.clients import QUICK, Outcome, curl, ping, resolve, tcp_connect, udp_ask
from tests.lab.namespace import Host
from tests.lab.process import ROOT, Running
from tests.lab.servers import dns_server, http_server, tcp_server, udp_counter, udp_echo
from tests.lab.service import serving
from tests.lab.topology import Lab
from tests.lab.wire import inject

pytestmark = pytest.mark.needs("nfqueue", "conntrack", "ping", "curl")

RULES = ROOT / "rules"
NAME = "www.example.org"
TUNNEL = f"{'a' * 50}.t.example.org"


def both(see: Callable[[int], object]) -> list[object]:
    """What is seen with IPv4 and with IPv6."""
    return [see(4), see(6)]


def outcome(
    source: Host, target: Host, port: int, timeout: float = 2.5, bind: Callable[[int], str] = lambda _: ""
) -> list[object]:
    """How connecting to a TCP port ends in each family."""
    return both(
        lambda family: tcp_connect(source, target.address(family), port, timeout=timeout, bind=bind(family)).outcome
    )


def syn(family: int, source: str, target: Host, port: int, sport: int = 49152) -> bytes:
    return build(
        {
            "hook": "output",
            "saddr": source,
            "daddr": target.address(family),
            "protocol": "tcp",
            "sport": sport,
            "dport": port,
        }
    ).data


ANSWERED, CONNECTED, REFUSED, TIMED_OUT, UNREACHABLE = (
    [each] * 2
    for each in (Outcome.ANSWERED, Outcome.CONNECTED, Outcome.REFUSED, Outcome.TIMED_OUT, Outcome.UNREACHABLE)
)


class TestWebServer:
    @pytest.fixture
    def service(self, lab: Lab) -> Iterator[Running]:
        with (
            http_server(lab.server, 80, 8080),
            tcp_server(lab.server, 22),
            dns_server(lab.gateway, {NAME: [lab.server.ipv4]}),
            tcp_server(lab.client, 443),
            serving(lab.server, RULES / "web-server.yaml") as running,
        ):
            yield running

    def test_everybody_gets_pages_and_nothing_else(self, lab: Lab, service: Running) -> None:
        client, server = lab.client, lab.server
        assert both(lambda family: curl(client, server.address(family)).outcome) == CONNECTED
        assert both(lambda family: ping(client, server.address(family)).outcome) == ANSWERED
        assert outcome(client, server, 8080, timeout=QUICK) == TIMED_OUT

    def test_only_management_gets_ssh(self, lab: Lab, service: Running) -> None:
        strangers = {family: lab.client.more_addresses(family, 1)[0] for family in (4, 6)}
        assert outcome(lab.client, lab.server, 22, bind=lab.client.address) == CONNECTED
        assert outcome(lab.client, lab.server, 22, timeout=QUICK, bind=strangers.__getitem__) == TIMED_OUT
        assert outcome(lab.client, lab.server, 80, bind=strangers.__getitem__) == CONNECTED

    def test_it_asks_its_resolvers_and_nobody_else(self, lab: Lab, service: Running) -> None:
        resolvers = {4: "192.0.2.1", 6: "2001:db8:1::1"}
        assert resolve(lab.server, resolvers[4], NAME).answer == lab.server.ipv4
        assert both(lambda family: udp_ask(lab.server, resolvers[family], 54).outcome) == UNREACHABLE
        assert outcome(lab.server, lab.client, 443) == UNREACHABLE
        service.wait_for("unexpected", "reject")

    def test_a_flood_in_the_operators_name_locks_nobody_out(self, lab: Lab, service: Running) -> None:
        for family, stranger in ((4, "192.31.196.1"), (6, "2620:4f:8000::1")):
            own = lab.client.address(family)
            ports = range(50_000, 50_600)
            inject(lab.client, [syn(family, own, lab.server, 80, port) for port in ports])
            inject(lab.client, [syn(family, stranger, lab.server, 80, port) for port in ports])
            service.wait_for("syn-flood", stranger)
        assert outcome(lab.client, lab.server, 22) == CONNECTED
        assert both(lambda family: curl(lab.client, lab.server.address(family)).outcome) == CONNECTED


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("first", ["server", "client"])
def test_a_session_that_is_older_than_the_web_servers_policy_goes_on(lab: Lab, family: int, first: str) -> None:
    version = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    with (
        lab.server.new_socket(version, socket.SOCK_STREAM) as listener,
        lab.client.new_socket(version, socket.SOCK_STREAM) as client,
    ):
        listener.bind((lab.server.address(family), 22))
        listener.listen()
        client.connect((lab.server.address(family), 22))
        server, _ = listener.accept()
        ends = [server, client] if first == "server" else [client, server]
        with server, serving(lab.server, RULES / "web-server.yaml"):
            for number in range(3):
                for sender, receiver in (ends, ends[::-1]):
                    receiver.settimeout(5.0)
                    sender.sendall(b"line %d\n" % number)
                    assert receiver.recv(100) == b"line %d\n" % number


class TestGateway:
    @pytest.fixture
    def service(self, lab: Lab) -> Iterator[Running]:
        with (
            http_server(lab.server, 80),
            tcp_server(lab.server, 25),
            udp_echo(lab.server, 7777),
            dns_server(lab.server, {NAME: [lab.server.ipv4, lab.server.ipv6]}),
            tcp_server(lab.client, 80),
            tcp_server(lab.gateway, 22, 8080),
            serving(lab.gateway, RULES / "gateway.yaml") as running,
        ):
            yield running

    def test_the_inside_asks_and_is_answered(self, lab: Lab, service: Running) -> None:
        client, server = lab.client, lab.server
        assert both(lambda family: curl(client, server.address(family)).outcome) == CONNECTED
        assert both(lambda family: ping(client, server.address(family)).outcome) == ANSWERED
        assert both(lambda family: udp_ask(client, server.address(family), 7777).outcome) == ANSWERED
        assert both(lambda family: resolve(client, server.address(family), NAME, family).answer) == [
            server.ipv4,
            server.ipv6,
        ]

    def test_the_outside_cannot_begin(self, lab: Lab, service: Running) -> None:
        assert outcome(lab.server, lab.client, 80, timeout=QUICK) == TIMED_OUT
        assert outcome(lab.server, lab.gateway, 22, timeout=QUICK) == TIMED_OUT
        # Not from the port of an answer either.
        for family in (4, 6):
            with udp_counter(lab.client, 9) as counter:
                udp_ask(lab.server, lab.client.address(family), 9, timeout=QUICK)
                assert ping(lab.server, lab.client.address(family)).outcome is Outcome.ANSWERED
                assert counter.received == []

    def test_the_inside_is_told_what_is_refused(self, lab: Lab, service: Running) -> None:
        assert outcome(lab.client, lab.server, 25) == UNREACHABLE
        assert outcome(lab.client, lab.gateway, 8080) == UNREACHABLE
        assert outcome(lab.client, lab.gateway, 22) == CONNECTED
        service.wait_for("stays-inside")

    def test_a_tunnel_in_dns_is_refused_also_behind_a_good_question(self, lab: Lab, service: Running) -> None:
        for family in (4, 6):
            address = lab.server.address(family)
            assert resolve(lab.client, address, NAME).outcome is Outcome.ANSWERED
            assert resolve(lab.client, address, TUNNEL).outcome is Outcome.REFUSED
        service.wait_for("dns-tunnel", "reject")

    def test_spoofed_sources_do_not_pass(self, lab: Lab, service: Running) -> None:
        inside = {4: "192.0.2.9", 6: "2001:db8:1::9"}
        with udp_counter(lab.client, 9) as at_client, udp_counter(lab.server, 9) as at_server:
            for family, stranger in ((4, "192.31.196.1"), (6, "2620:4f:8000::1")):
                forged = {"hook": "output", "protocol": "udp", "sport": 4000, "dport": 9}
                to_client = {"saddr": inside[family], "daddr": lab.client.address(family)}
                to_server = {"saddr": stranger, "daddr": lab.server.address(family)}
                inject(lab.server, [build(forged | to_client).data])
                inject(lab.client, [build(forged | to_server).data])
                # One queue, in order: when these are answered the forged ones are decided.
                assert ping(lab.server, lab.client.address(family)).outcome is Outcome.ANSWERED
                assert ping(lab.client, lab.server.address(family)).outcome is Outcome.ANSWERED
                service.wait_for("spoofed", stranger)
            assert (at_client.received, at_server.received) == ([], [])

    def test_who_touches_a_trap_is_gone(self, lab: Lab, service: Running) -> None:
        assert both(lambda family: ping(lab.server, lab.client.address(family)).outcome) == ANSWERED
        assert outcome(lab.server, lab.gateway, 23, timeout=QUICK) == TIMED_OUT
        assert both(lambda family: ping(lab.server, lab.client.address(family), timeout=QUICK).outcome) == TIMED_OUT
        lab.gateway.ip("neigh flush all")
        assert both(lambda family: curl(lab.client, lab.server.address(family)).outcome) == CONNECTED


class TestWorkstation:
    @pytest.fixture
    def service(self, lab: Lab) -> Iterator[Running]:
        with (
            http_server(lab.server, 80),
            tcp_server(lab.server, 23, 25, 445),
            udp_echo(lab.server, 7),
            tcp_server(lab.client, 22),
            serving(lab.client, RULES / "workstation.yaml") as running,
        ):
            yield running

    def test_it_asks_and_is_answered(self, lab: Lab, service: Running) -> None:
        client, server = lab.client, lab.server
        assert both(lambda family: curl(client, server.address(family)).outcome) == CONNECTED
        assert both(lambda family: ping(client, server.address(family)).outcome) == ANSWERED
        assert both(lambda family: udp_ask(client, server.address(family), 7).outcome) == ANSWERED
        # An error about what it asked is an answer too.
        assert outcome(client, server, 81) == REFUSED
        assert both(lambda family: udp_ask(client, server.address(family), 81).outcome) == REFUSED
        assert outcome(client, client, 22) == CONNECTED

    def test_nobody_asks_it(self, lab: Lab, service: Running) -> None:
        assert outcome(lab.server, lab.client, 22, timeout=QUICK) == TIMED_OUT
        assert (
            both(lambda family: udp_ask(lab.server, lab.client.address(family), 9, timeout=QUICK).outcome) == TIMED_OUT
        )

    def test_it_is_told_at_once_what_it_must_not(self, lab: Lab, service: Running) -> None:
        for port, rule in ((23, "telnet-out"), (25, "smtp-out"), (445, "file-sharing-abroad")):
            assert outcome(lab.client, lab.server, port) == REFUSED
            service.wait_for(rule, "reject")


@pytest.mark.parametrize("name", ["workstation", "web-server", "gateway"])
def test_ctrl_c_removes_everything(lab: Lab, name: str) -> None:
    saved = [lab.gateway.run(f"{tool}-save").stdout for tool in ("iptables", "ip6tables")]
    with serving(lab.gateway, RULES / f"{name}.yaml") as service:
        assert list(lab.gateway.queues()) == [0]
        assert service.stop(signal.SIGINT) == 0
    assert lab.gateway.queues() == {}
    assert [lab.gateway.run(f"{tool}-save").stdout for tool in ("iptables", "ip6tables")] == saved

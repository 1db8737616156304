"""The cases of Linux's own queue self-test (tools/testing/selftests/net/netfilter/nft_queue.sh), in its order, with
qfilter as the listener. After each the kernel must not be tainted: its own warnings about reference counts are there.

Bypass and blackhole without a listener are in test_no_listener, super-packets in test_native_verdicts.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfilter.daemon import Service
from qfilter.model.verdict import ACCEPT
from tests.kernel.nfqueue import always, judge_all, opened
from tests.kernel.running import in_force
from tests.lab.clients import Outcome, ping, send_datagrams, tcp_connect
from tests.lab.holder import QueueHolder
from tests.lab.leftovers import remove
from tests.lab.namespace import Host
from tests.lab.process import wait_until
from tests.lab.servers import Digests, digesting, tcp_server, udp_counter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft", "ping")

backends = pytest.mark.parametrize(
    "backend",
    [
        pytest.param("iptables-legacy", marks=pytest.mark.needs("iptables-legacy")),
        "iptables-nft",
        pytest.param("nft", marks=pytest.mark.needs("nft-queue")),
    ],
)
families = pytest.mark.parametrize("family", [4, 6])
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
SCTP = 132
PIECE = 1 << 15
"""Bytes that SCTP takes as one message."""
LARGE = random.Random(1).randbytes(4 << 20)


@pytest.fixture(autouse=True)
def _untainted() -> Iterator[None]:
    flags = Path("/proc/sys/kernel/tainted")
    before = flags.read_text()
    yield
    assert flags.read_text() == before, "the kernel warned"


def policy(backend: str, *lines: str, queue: str = "number: 0-1") -> str:
    """All five hooks, everything accepted behind the lines."""
    accepted = ", ".join(f"{hook}: accept" for hook in HOOKS)
    rules = "".join(f"  - {{{line}}}\n" for line in lines)
    head = f"version: 1\ndefault: {{{accepted}}}\nqueue: {{backend: {backend}, {queue}}}\n"
    return f"{head}rules:\n{rules}" if rules else head


def counted(service: Service) -> dict[str, int]:
    return {row.rule: row.tally.packets for row in service.report().rules}


@backends
@families
def test_every_hook_counts_exactly(lab: Lab, backend: str, family: int) -> None:
    """Ten questions and ten answers through the gateway, then ten and ten with the gateway itself."""
    echo = "any: [{icmp.type: [echo-request, echo-reply]}, {icmpv6.type: [echo-request, echo-reply]}]"
    text = policy(backend, *(f"id: {hook}, hook: {hook}, match: {{{echo}}}, verdict: accept" for hook in HOOKS))
    with in_force(lab.gateway, text, install=True) as service:
        assert ping(lab.client, lab.server.address(family), count=10).count == 10
        through = {"prerouting": 20, "input": 0, "forward": 20, "output": 0, "postrouting": 20}
        wait_until(lambda: counted(service) == through, f"the hooks should count {through}")
        assert ping(lab.client, lab.gateway.address(family), count=10).count == 10
        both = {"prerouting": 30, "input": 10, "forward": 20, "output": 10, "postrouting": 30}
        wait_until(lambda: counted(service) == both, f"the hooks should count {both}")


@backends
@families
def test_from_one_queue_to_the_next(lab: Lab, backend: str, family: int) -> None:
    """The second listener gets what the first one sends on, and its verdict holds."""
    text = policy(
        backend, "id: onwards, hook: forward, match: {protocol: udp, dport: 9}, verdict: queue 7", queue="number: 0"
    )
    with (
        udp_counter(lab.server, 9) as server,
        in_force(lab.gateway, text, install=True) as service,
        opened(lab.gateway, 7) as second,
    ):
        send_datagrams(lab.client, lab.server.address(family), 9, 50)
        assert judge_all(second, always(ACCEPT), 50) == 50
        assert server.collect(50) == 50
        assert counted(service)["onwards"] == 50


def await_whole(digests: Digests, content: bytes) -> None:
    """Patiently: on a busy machine the queue overflows, and TCP sends again."""
    expected = [hashlib.sha256(content).hexdigest()]
    wait_until(lambda: digests.found == expected, "the content should arrive whole", timeout=60)


def send(host: Host, target: str, port: int, content: bytes, protocol: int = 0) -> None:
    kind = socket.AF_INET6 if ":" in target else socket.AF_INET
    with host.new_socket(kind, socket.SOCK_STREAM, protocol) as connection:
        connection.settimeout(60)
        connection.connect((target, port))
        for start in range(0, len(content), PIECE):
            connection.sendall(content[start : start + PIECE])


@backends
@families
@pytest.mark.parametrize("local", [False, True], ids=["forwarded", "local"])
def test_large_tcp_transfers(lab: Lab, backend: str, family: int, local: bool) -> None:
    host, sender = (lab.gateway, lab.gateway) if local else (lab.server, lab.client)
    with in_force(lab.gateway, policy(backend), install=True) as service, digesting(host, family) as digests:
        send(sender, host.address(family), digests.port, LARGE)
        await_whole(digests, LARGE)
        judged = sum(row.tally.bytes for row in service.report().defaults.values())
        assert judged > 3 * len(LARGE)


@backends
@families
def test_connections_that_close_while_they_are_queued(lab: Lab, backend: str, family: int) -> None:
    """On the gateway itself, where packets in the queue hold on to sockets of this machine."""
    with tcp_server(lab.gateway, 7000), in_force(lab.gateway, policy(backend), install=True):
        for _ in range(200):
            assert tcp_connect(lab.gateway, lab.gateway.address(family), 7000).outcome is Outcome.CONNECTED


@backends
@families
@pytest.mark.needs("sctp")
@pytest.mark.parametrize("local", [False, True], ids=["forwarded", "local"])
def test_sctp(lab: Lab, backend: str, family: int, local: bool) -> None:
    """Its rules match by port, and large messages pass in order, super-packets among them."""
    host, sender = (lab.gateway, lab.gateway) if local else (lab.server, lab.client)
    content = LARGE[: 1 << 20]
    text = policy(backend, "id: sctp, match: {protocol: sctp, dport: 9}, verdict: accept")
    with (
        in_force(lab.gateway, text, install=True) as service,
        digesting(host, family, port=9, protocol=SCTP) as digests,
    ):
        send(sender, host.address(family), digests.port, content, SCTP)
        await_whole(digests, content)
        assert counted(service)["sctp"] > 0


@pytest.mark.needs("nft", "nft-nat")
def test_two_datagrams_of_one_flow_race_for_their_translation(lab: Lab) -> None:
    """Both wait in the queue before conntrack knows the flow, and NAT has chosen another port for each."""
    choice = ", ".join(f"{number} : {lab.server.ipv4} . {port}" for number, port in enumerate((9, 10)))
    table = "table ip race {{ chain pre {{ type nat hook prerouting priority dstnat; {}; }}; }}\n"
    rule = f"udp dport 9 dnat ip to numgen inc mod 2 map {{ {choice} }}"
    lab.gateway.run("nft", "-f", "-", stdin=table.format(rule))
    lab.gateway.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "0")
    with (
        udp_counter(lab.server, 9) as first,
        udp_counter(lab.server, 10) as second,
        QueueHolder(lab.gateway, 0) as holder,
    ):
        flows = 20
        for port in range(5000, 5000 + flows):
            send_datagrams(lab.client, "203.0.113.1", 9, 2, source_ports=[port])
            numbers = [holder.take(), holder.take()]
            for number in numbers:
                holder.decide(number, accept=True)
        # The loser of a race passes where the kernel can settle it, and is dropped where it cannot.
        wait_until(lambda: lab.gateway.queues()[0].waiting == 0, "the queue should be empty")
        assert first.collect(flows) + second.collect(0) <= 2 * flows
        assert {datagram.port for datagram in (*first.received, *second.received)} == set(range(5000, 5000 + flows))


@families
def test_verdicts_in_reverse_order_and_ids_that_are_none(lab: Lab, family: int) -> None:
    """A thousand packets, decided last first, with verdicts for ids that were never given in between."""
    for tool in ("iptables-nft", "ip6tables-nft"):
        lab.gateway.run(tool, "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "0")
    with udp_counter(lab.server, 9) as server, QueueHolder(lab.gateway, 0) as holder:
        for _ in range(5):
            send_datagrams(lab.client, lab.server.address(family), 9, 200)
            numbers = [holder.take() for _ in range(200)]
            for number, bogus in zip(reversed(numbers), itertools.cycle((0, 1 << 31, 0xFFFF_FFFF)), strict=False):
                holder.decide(bogus, accept=True)
                holder.decide(number, accept=number % 2 == 0)
                holder.decide(number, accept=True)  # decided already
        assert holder.refused == 2 * 4 * 200, "of the first four rounds"
        assert server.collect(500) == 500
        assert lab.gateway.queues()[0].waiting == 0


@pytest.mark.parametrize("goes", ["rules", "interface", "listener", "namespace"])
def test_something_goes_away_while_packets_are_held(lab: Lab, goes: str) -> None:
    """What is held is dropped or passes by its verdict; the kernel holds on to nothing that is gone."""
    lab.gateway.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "0")
    with udp_counter(lab.server, 9) as server, QueueHolder(lab.gateway, 0) as holder:
        send_datagrams(lab.client, lab.server.ipv4, 9, 20)
        numbers = [holder.take() for _ in range(20)]
        passes = goes == "rules"
        if goes == "rules":
            lab.gateway.run("iptables-nft", "-F", "FORWARD")
        elif goes == "interface":
            lab.gateway.ip("link delete wan")
        elif goes == "namespace":
            remove(lab.gateway.name)  # the holder's socket is the last that keeps it
        if goes in ("listener", "namespace"):
            holder.close()
        else:
            for number in numbers:
                holder.decide(number, accept=True)
        assert server.collect(20 if passes else 0) == (20 if passes else 0)

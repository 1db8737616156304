"""Marks, NAT, other queues: what qfilter hands back to the kernel cannot be turned into a way past it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.kernel.running import PolicyFile, events
from tests.lab.clients import QUICK, Outcome, send_datagrams, tcp_connect, udp_ask
from tests.lab.process import wait_until
from tests.lab.servers import tcp_server, udp_counter, udp_echo
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

SO_MARK = 36
BOTH = ("iptables-legacy", "ip6tables-legacy")
each_family = pytest.mark.parametrize("family", [4, 6])

LOCAL = """version: 1
default: {input: accept, output: accept}
queue: {backend: iptables-legacy}
rules:
  - {id: telnet, match: {protocol: tcp, dport: 23}, log: true, verdict: reject tcp-reset}
  - {id: deny, match: {protocol: udp, dport: 23}, log: true, verdict: reject}
"""


@pytest.mark.parametrize("mark", [0x1000_0000, 0x2000_0000, 0x3000_0000, 0xE000_0001, 0xF000_0000, 0x0FFF_FFFF])
def test_a_local_root_process_gains_nothing_by_its_marks(lab: Lab, policy_file: PolicyFile, mark: int) -> None:
    """What is denied is denied with any mark; a hand-back bit keeps even what is allowed from leaving."""
    with (
        serving(lab.gateway, policy_file(LOCAL)),
        udp_counter(lab.server, 23) as denied,
        udp_counter(lab.server, 7) as allowed,
        lab.gateway.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.setsockopt(socket.SOL_SOCKET, SO_MARK, mark.to_bytes(4, "little"))
        for port in (23, 7):
            try:
                sender.sendto(b"marked", (lab.server.ipv4, port))
            except PermissionError:
                assert mark >> 28
        arrives = 0 if mark >> 28 else 1
        assert (allowed.collect(arrives), denied.collect(0)) == (arrives, 0)


ANSWERED, SILENT = (Outcome.REFUSED,) * 2, (Outcome.TIMED_OUT,) * 2


@each_family
@pytest.mark.parametrize(
    ("prepare", "exempt", "sees"),
    [
        ("true", "[]", ANSWERED),
        # nf_send_reset and icmp_send give the answer the rejected packet's mark, with its hand-back bits.
        ("sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1", "[]", SILENT),
        ("sysctl -qw net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1", "[established]", ANSWERED),
        # The answer shares its unconfirmed connection with the rejected packet (nf_ct_drop_unconfirmed of NFQUEUE).
        ("for i in iptables ip6tables; do $i-legacy -A INPUT -m conntrack --ctstate NEW; done", "[]", SILENT),
        (
            "for i in iptables ip6tables; do $i-legacy -A INPUT -m conntrack --ctstate NEW; done",
            "[established]",
            ANSWERED,
        ),
    ],
    ids=["plain", "reflected", "reflected, exempt", "tracked", "tracked, exempt"],
)
def test_answers_of_rejects_where_the_output_is_judged_too(
    lab: Lab, policy_file: PolicyFile, prepare: str, exempt: str, sees: tuple[Outcome, Outcome], family: int
) -> None:
    """It fails closed: the worst is that the client is not told. `exempt: [established]` lets the answers out."""
    text = LOCAL.replace("queue: {", f"queue: {{exempt: {exempt}, ")
    lab.gateway.run("sh", "-c", prepare)
    address = lab.gateway.address(family)
    with serving(lab.gateway, policy_file(text)), tcp_server(lab.gateway, 23), udp_counter(lab.gateway, 23) as denied:
        seen = (
            tcp_connect(lab.client, address, 23, timeout=QUICK).outcome,
            udp_ask(lab.client, address, 23, timeout=QUICK).outcome,
        )
        assert denied.collect(0) == 0
    assert seen == sees


REPEATING = """version: 1
default: {prerouting: accept, forward: drop, postrouting: accept}
queue: {backend: iptables-legacy}
rules:
  - {id: again, match: {mark: 0x0/0xff}, mark: {set: 0x1, mask: 0xff}, verdict: repeat}
  - {id: echo, hook: forward, match: {protocol: [tcp, udp], any: [{dport: 7}, {sport: 7}]}, verdict: accept}
"""


@each_family
def test_repeat_and_address_translation(lab: Lab, policy_file: PolicyFile, tmp_path: Path, family: int) -> None:
    """Every packet goes twice through three hooks, translated in both directions; what is denied stays denied."""
    tool = BOTH[family == 6]
    target = {4: f"{lab.server.ipv4}:7", 6: f"[{lab.server.ipv6}]:7"}[family]
    lab.gateway.run(tool, "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
    for protocol in ("tcp", "udp"):
        rule = f"-t nat -A PREROUTING -i lan -p {protocol} --dport 77 -j DNAT --to-destination {target}"
        lab.gateway.run(tool, *rule.split())
    path = tmp_path / "events"
    with (
        serving(lab.gateway, policy_file(REPEATING), "--events", str(path)) as service,
        udp_echo(lab.server, 7) as echo,
        udp_counter(lab.server, 8) as denied,
        tcp_server(lab.server, 7),
    ):
        for address, port in ((lab.server.address(family), 7), (lab.gateway.address(family), 77)):
            assert udp_ask(lab.client, address, port).outcome is Outcome.ANSWERED
            assert tcp_connect(lab.client, address, port).outcome is Outcome.CONNECTED
        send_datagrams(lab.client, lab.server.address(family), 8, 10)
        assert denied.collect(0) == 0
        assert {each.source for each in echo.received} == {{4: "198.51.100.1", 6: "2001:db8:2::1"}[family]}
        service.stop()
        (stop,) = events(path, "stop")
    assert stop["queues"][0]["errors"] == {}
    assert stop["verdicts"]["drop"] == 10


@pytest.mark.parametrize("no_listener", ["drop", "accept"])
def test_a_queue_that_nobody_listens_to_drops(lab: Lab, policy_file: PolicyFile, no_listener: str) -> None:
    """`no_listener` is about qfilter's own queues, and its bypass does not spread to others."""
    text = f"""version: 1
default: {{forward: accept}}
queue: {{backend: iptables-legacy}}
on_failure: {{no_listener: {no_listener}}}
rules:
  - {{id: away, match: {{dport: 9}}, log: true, verdict: queue 5}}
"""
    with serving(lab.gateway, policy_file(text)) as service, udp_counter(lab.server, 9) as server:
        send_datagrams(lab.client, lab.server.ipv4, 9, 5)
        service.wait_for('"verdict":"queue 5"')
        wait_until(lambda: lab.gateway.queues()[0].waiting == 0, "all should be decided")
        assert server.collect(0) == 0

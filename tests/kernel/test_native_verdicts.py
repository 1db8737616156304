"""The native engine on real queues: marks, other queues, flows, limits, sets, scapy, big packets, users, renames."""

from __future__ import annotations

import hashlib
import re
import socket

import pytest

from qfilter.control.messages import Change, Changed, ChangeSet
from qfilter.daemon import Service
from qfilter.model.report import Report
from qfilter.model.verdict import Kind
from tests.kernel.nfqueue import iptables, rules
from tests.kernel.running import Kept, in_force
from tests.lab.clients import QUICK, Outcome, resolve, send_datagrams, tcp_connect, udp_ask
from tests.lab.namespace import Namespace
from tests.lab.process import wait_until
from tests.lab.servers import digesting, dns_server, tcp_server, udp_counter, udp_echo
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

families = pytest.mark.parametrize("family", [4, 6])
PORT = 9


def policy(*lines: str, default: str = "forward: drop", queue: str = "number: 0") -> str:
    """Its rules, a line each."""
    listed = "".join(f"  - {{{line}}}\n" for line in lines)
    return f"version: 1\ndefault: {{{default}}}\nqueue: {{backend: iptables-legacy, {queue}}}\nrules:\n{listed}"


def matched(service: Service) -> dict[str, int]:
    """Packets by the rules that matched any."""
    return {row.rule: row.tally.packets for row in service.report().rules if row.tally.packets}


def dropped_by_default(report: Report) -> int:
    return sum(row.tally.packets for row in report.defaults.values())


def hits(host: Namespace, family: int, chain: str) -> dict[str, int]:
    """Packets by the marks that the rules of a chain of the mangle table look for."""
    listed = host.run(iptables[family], "-t", "mangle", "-nvxL", chain).stdout
    return {found[2]: int(found[1]) for found in re.finditer(r"^ *(\d+) .* mark match (\S+)", listed, re.MULTILINE)}


@families
def test_marks_are_set_and_only_the_bits_of_the_mask(lab: Lab, family: int) -> None:
    text = policy(
        "id: whole, match: {dport: 9}, mark: 0x7, verdict: accept",
        "id: bits, match: {dport: 10, mark: 0x30}, mark: {set: 0x1, mask: 0xf}",
        "id: seen, match: {dport: 10, mark: 0x31}, verdict: accept",
        "id: left, match: {dport: 11}, verdict: accept",
    )
    tool = iptables[family]
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    for port in (10, 11):
        line = f"-t mangle -A PREROUTING -p udp --dport {port} -j MARK --set-mark 0x30"
        lab.gateway.run(tool, *line.split())
    for mark in ("0x7", "0x31", "0x30"):
        lab.gateway.run(*(tool, "-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", mark))
    to = lab.server.address(family)
    with udp_counter(lab.server, 11) as server, in_force(lab.gateway, text) as service:
        for port, count in ((9, 5), (10, 6), (11, 7)):
            send_datagrams(lab.client, to, port, count)
        assert server.collect(7) == 7
        assert matched(service) == {"whole": 5, "bits": 6, "seen": 6, "left": 7}
    assert hits(lab.gateway, family, "POSTROUTING") == {"0x7": 5, "0x31": 6, "0x30": 7}


@families
def test_what_is_rejected_is_answered(lab: Lab, family: int) -> None:
    text = policy(
        "id: reset, match: {protocol: tcp, dport: 23}, verdict: reject tcp-reset",
        "id: port, match: {protocol: udp, dport: 9}, verdict: reject port-unreachable",
        "id: admin, match: {protocol: tcp, dport: 25}, verdict: reject admin-prohibited",
        "id: answer, match: {tcp.flags: ack}, verdict: accept",
    )
    to = lab.server.address(family)
    with tcp_server(lab.server, 23, 25), in_force(lab.gateway, text, install=True) as service:
        assert tcp_connect(lab.client, to, 23).outcome is Outcome.REFUSED
        assert udp_ask(lab.client, to, 9).outcome is Outcome.REFUSED
        assert tcp_connect(lab.client, to, 25).outcome is Outcome.UNREACHABLE
        assert matched(service) == {"reset": 1, "port": 1, "admin": 1}
        assert service.queues[0].counters.repeated == 3
        assert service.report().verdicts[Kind.REJECT].packets == 3


def test_to_another_queue(lab: Lab) -> None:
    """The other service judges what it is given; where none listens, the packet is dropped."""
    first = policy(
        "id: onward, match: {dport: [9, 10]}, verdict: queue 5", "id: lost, match: {dport: 11}, verdict: queue 6"
    )
    second = policy("id: here, match: {dport: 9}, log: true, verdict: accept", queue="number: 5")
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    kept = Kept()
    with (
        udp_counter(lab.server, PORT) as server,
        in_force(lab.gateway, first) as service,
        in_force(lab.gateway, second, kept=kept) as other,
    ):
        for port in (9, 10, 11):
            send_datagrams(lab.client, lab.server.ipv4, port, 4)
        assert server.collect(4) == 4
        assert {event["rule"] for event in kept.wait_for("verdict", 4)} == {"here"}
        wait_until(lambda: other.queues[0].counters.dropped == 4, "the others should be dropped by the default")
        assert service.queues[0].counters.requeued == 12
        assert matched(service) == {"onward": 8, "lost": 4}
        assert matched(other) == {"here": 4}


def test_repeat_meets_the_chain_again(lab: Lab) -> None:
    text = policy(
        "id: again, match: {dport: 9, mark: 0x0}, mark: 0x8, verdict: repeat",
        "id: second, match: {dport: 9, mark: 0x8}, verdict: accept",
    )
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, text) as service:
        send_datagrams(lab.client, lab.server.ipv4, PORT, 20)
        assert server.collect(20) == 20
        assert matched(service) == {"again": 20, "second": 20}
        counters = service.queues[0].counters
    assert (counters.received, counters.repeated, counters.accepted) == (40, 20, 20)


@families
def test_a_flow_is_known_in_every_queue(lab: Lab, family: int) -> None:
    """What the client sends is in one queue, what comes back in another."""
    text = policy("id: mine, match: {iifname: lan, dport: 9}, verdict: accept, scope: flow", queue="number: 0-1")
    rules(lab.gateway, "FORWARD -i lan -p udp -j NFQUEUE", "FORWARD -i wan -p udp -j NFQUEUE --queue-num 1")
    with udp_echo(lab.server, PORT), in_force(lab.gateway, text) as service:
        assert udp_ask(lab.client, lab.server.address(family), PORT).outcome is Outcome.ANSWERED
        assert [queue.counters.accepted for queue in service.queues] == [1, 1]
        assert matched(service) == {"mine": 2}


def test_a_limit_is_one_for_all_queues(lab: Lab) -> None:
    text = policy(
        "id: some, match: {dport: [9, 10]}, limit: {rate: 1/hour, burst: 5}, verdict: accept", queue="number: 0-1"
    )
    rules(lab.gateway, "FORWARD -p udp --dport 9 -j NFQUEUE", "FORWARD -p udp --dport 10 -j NFQUEUE --queue-num 1")
    with udp_counter(lab.server, 9) as nine, udp_counter(lab.server, 10) as ten, in_force(lab.gateway, text) as service:
        send_datagrams(lab.client, lab.server.ipv4, 9, 3)
        assert nine.collect(3) == 3
        send_datagrams(lab.client, lab.server.ipv4, 10, 20)
        send_datagrams(lab.client, lab.server.ipv4, 9, 20)
        assert ten.collect(0) + nine.collect(0) == 5
        assert matched(service) == {"some": 5}
        assert dropped_by_default(service.report()) == 38


@families
def test_a_set_fills_from_all_queues_and_stops_in_all(lab: Lab, family: int) -> None:
    text = policy(
        "id: known, match: {saddr: $seen}, verdict: drop",
        "id: new, match: {dport: 9}, add: {set: seen, element: saddr}, verdict: accept",
        queue="number: 0-3",
    ).replace("rules:", "sets: {seen: {type: address, dynamic: true, timeout: 1h, size: 1000}}\nrules:")
    sources = lab.client.more_addresses(family, 40)
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE --queue-balance 0:3")
    to = lab.server.address(family)
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, text) as service:
        send_datagrams(lab.client, to, PORT, 40, sources=sources)
        assert server.collect(40) == 40
        assert service.report().sets["seen"].elements == 40
        assert sum(queue.counters.accepted > 0 for queue in service.queues) >= 3
        # Now all go through one queue.
        rules_of(lab, family, "FORWARD -p udp -j NFQUEUE --queue-num 2")
        send_datagrams(lab.client, to, PORT, 40, sources=sources)
        wait_until(lambda: matched(service) == {"known": 40, "new": 40}, "all should be known in that queue")
        changed = service.change_set(ChangeSet(set="seen", change=Change.DELETE, elements=(sources[0],)))
        assert isinstance(changed, Changed)
        send_datagrams(lab.client, to, PORT, 1, sources=sources)
        assert server.collect(41) == 41


def rules_of(lab: Lab, family: int, line: str) -> None:
    """The only rule from now on."""
    lab.gateway.run(iptables[family], "-F", "FORWARD")
    rules(lab.gateway, line, families=(family,))


@families
def test_dns_names_by_scapy(lab: Lab, family: int) -> None:
    text = policy(
        "id: tunnel, match: {dport: 53, scapy.DNSQR.qname: {ends_with: .evil.example.}}, log: true, verdict: drop",
        "id: dns, match: {protocol: udp, dport: 53}, verdict: accept",
        "id: answer, match: {protocol: udp, sport: 53}, verdict: accept",
    )
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    to, kept = lab.server.address(family), Kept()
    names = {"www.good.example": ["192.0.2.80"], "x.evil.example": ["192.0.2.66"]}
    with dns_server(lab.server, names), in_force(lab.gateway, text, kept=kept) as service:
        assert resolve(lab.client, to, "www.good.example").answer == "192.0.2.80"
        assert resolve(lab.client, to, "x.evil.example", timeout=QUICK).outcome is Outcome.TIMED_OUT
        (event,) = kept.wait_for("verdict", 1)
        assert matched(service) == {"tunnel": 1, "dns": 1, "answer": 1}
    assert (event["verdict"], event["rule"], event["daddr"]) == ("drop", "tunnel", to)


@families
def test_super_packets_pass_whole_and_are_searched_to_their_end(lab: Lab, family: int) -> None:
    """TCP's segments come unsegmented, 64 KiB at once; a literal stands in each of them, far behind the headers."""
    text = policy(
        "id: big, match: {protocol: tcp, length: {gt: 20000}}, count: big",
        "id: literal, match: {protocol: tcp, payload: {contains: needle}}, count: literal",
        "id: absent, match: {protocol: tcp, payload: {contains: nowhere}}, verdict: drop",
        "id: all, match: {protocol: tcp}, verdict: accept",
    )
    data = b"".join(b"%09d needle " % number for number in range(500_000))
    rules(lab.gateway, "FORWARD -p tcp -j NFQUEUE")
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    with in_force(lab.gateway, text) as service, digesting(lab.server, family, port=PORT) as digests:
        with lab.client.new_socket(kind, socket.SOCK_STREAM) as sender:
            sender.connect((lab.server.address(family), PORT))
            sender.sendall(data)
        wait_until(lambda: bool(digests.found), "all should arrive", timeout=20.0)
        counted = matched(service)
        assert service.queues[0].counters.truncated == 0
    assert digests.found == [hashlib.sha256(data).hexdigest()]
    assert counted["big"] > 20
    assert counted["literal"] >= counted["big"]


def test_uid_and_gid_of_who_sends(lab: Lab) -> None:
    text = policy(
        "id: user, match: {protocol: udp, uid: 1234, gid: 4321}, verdict: accept",
        "id: group, match: {protocol: udp, gid: 4321}, verdict: drop",
        default="output: drop",
    )
    rules(lab.gateway, "OUTPUT -p udp --dport 9 -j NFQUEUE")
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, text) as service:
        for uid, gid in ((1234, 4321), (1235, 4321), (1234, 0)):
            words = f"setpriv --reuid={uid} --regid={gid} --clear-groups bash -c".split()
            lab.gateway.run(*words, f"echo {uid} {gid} > /dev/udp/{lab.server.ipv4}/{PORT}")
        wait_until(lambda: service.queues[0].counters.received == 3, "all three should be judged")
        assert server.collect(1) == 1
        assert server.received[0].payload == b"1234 4321\n"
        assert matched(service) == {"user": 1, "group": 1}
        assert dropped_by_default(service.report()) == 1


def test_an_interface_that_is_renamed_while_it_serves(lab: Lab) -> None:
    text = policy(
        "id: lan, match: {iifname: lan}, log: true, verdict: accept",
        "id: inside, match: {iifname: inside}, log: true, verdict: accept",
    )
    kept = Kept()
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, text, kept=kept) as service:
        for count, before, name in ((2, "lan", "inside"), (4, "inside", "lan"), (6, "lan", "inside")):
            send_datagrams(lab.client, lab.server.ipv4, PORT, 2)
            assert server.collect(count) == count
            lab.gateway.rename(before, name)
        assert matched(service) == {"lan": 4, "inside": 2}
        told = kept.wait_for("verdict", 6)
    assert [event["iifname"] for event in told] == ["lan", "lan", "inside", "inside", "lan", "lan"]

"""Verdicts on a real queue: what the packets do afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import ACCEPT, DROP, Decision, Kind, Reason, RejectWith, Verdict
from tests.kernel.nfqueue import (
    PORT,
    Remembering,
    accepting,
    always,
    dropping,
    judge_all,
    number_of,
    opened,
    rules,
    served,
)
from tests.lab.clients import Outcome, http_get, send_datagrams, tcp_connect, udp_ask
from tests.lab.servers import http_server, tcp_server, udp_counter, udp_echo
from tests.lab.topology import CLIENT_MAC, Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

both_families = pytest.mark.parametrize("family", [4, 6])
UDP = "FORWARD -p udp -j NFQUEUE --queue-num 0"


@both_families
def test_every_datagram_comes_once_and_passes_when_accepted(lab: Lab, family: int) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge = Remembering()
        sent = send_datagrams(lab.client, lab.server.address(family), PORT, 300)
        assert judge_all(queue, judge, sent) == sent
        assert list(map(number_of, judge.seen)) == list(range(sent))
        assert server.collect(sent) == sent
    assert (queue.counters.received, queue.counters.accepted, queue.counters.dropped) == (sent, sent, 0)
    assert (queue.counters.lost, queue.counters.failures, queue.counters.errors) == (0, {}, {})


@both_families
def test_a_dropped_datagram_goes_nowhere(lab: Lab, family: int) -> None:
    def odd_ones_pass(packet: Packet) -> Verdict:
        return Verdict(ACCEPT if number_of(packet) % 2 else DROP, Reason.RULE)

    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        sent = send_datagrams(lab.client, lab.server.address(family), PORT, 100)
        judge_all(queue, odd_ones_pass, sent)
        assert server.collect(50) == 50
        assert {int(datagram.payload[:10]) % 2 for datagram in server.received} == {1}
    assert (queue.counters.accepted, queue.counters.dropped) == (50, 50)


@both_families
def test_what_a_forwarded_packet_says(lab: Lab, family: int) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT):
        rules(lab.gateway, "FORWARD -p udp -j NFQUEUE --queue-num 0")
        judge = Remembering()
        send_datagrams(lab.client, lab.server.address(family), PORT, 1)
        judge_all(queue, judge, 1)
    packet = judge.only
    assert (packet.hook, packet.iifname, packet.oifname) == (Hook.FORWARD, "lan", "wan")
    assert (packet.physin, packet.physout, packet.uid, packet.gid, packet.mark) == (None, None, None, None, 0)
    assert packet.hwaddr == bytes.fromhex(CLIENT_MAC.replace(":", ""))
    assert packet.wire_length == len(packet.data) == {4: 20, 6: 40}[family] + 8 + 18
    assert packet.data[0] >> 4 == family


@pytest.mark.parametrize(
    ("table", "chain", "hook", "interfaces"),
    [
        ("mangle", "PREROUTING", Hook.PREROUTING, ("lan", None)),
        ("mangle", "POSTROUTING", Hook.POSTROUTING, (None, "wan")),
    ],
)
def test_each_hook_has_its_own_interfaces(
    lab: Lab, table: str, chain: str, hook: Hook, interfaces: tuple[str | None, str | None]
) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT):
        rules(lab.gateway, f"{chain} -t {table} -p udp -j NFQUEUE", families=(4,))
        judge = Remembering()
        send_datagrams(lab.client, lab.server.ipv4, PORT, 1)
        judge_all(queue, judge, 1)
    assert (judge.only.hook, judge.only.iifname, judge.only.oifname) == (hook, *interfaces)


def test_a_bridged_packet_says_its_ports(lab: Lab) -> None:
    if not Path("/proc/sys/net/bridge").exists():
        pytest.skip("not supported here: bridge netfilter: /proc/sys/net/bridge is not there")
    lab.client.ip("addr add 203.0.113.1/24 dev eth0")
    lab.server.ip("addr add 203.0.113.2/24 dev eth0")
    lab.gateway.ip("link add br0 type bridge", "link set br0 up", "link set lan master br0", "link set wan master br0")
    lab.gateway.sysctl("net.bridge.bridge-nf-call-iptables", 1)
    with opened(lab.gateway) as queue:
        rules(lab.gateway, UDP)
        judge = Remembering()
        send_datagrams(lab.client, "203.0.113.2", PORT, 1)
        judge_all(queue, judge, 1)
    packet = judge.only
    assert (packet.iifname, packet.oifname, packet.physin, packet.physout) == ("br0", "br0", "lan", "wan")


def test_a_large_packet_arrives_whole(lab: Lab) -> None:
    for host, interfaces in ((lab.client, ["eth0"]), (lab.gateway, ["lan", "wan"]), (lab.server, ["eth0"])):
        host.ip(*(f"link set {interface} mtu 65535" for interface in interfaces))
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge = Remembering()
        send_datagrams(lab.client, lab.server.ipv4, PORT, 1, size=60_000)
        judge_all(queue, judge, 1)
        assert server.collect(1) == 1
        assert len(server.received[0].payload) == 60_000
    assert len(judge.only.data) == judge.only.wire_length == 60_028
    assert queue.counters.truncated == 0


@both_families
def test_tcp_super_packets_come_as_one_and_go_on(lab: Lab, family: int) -> None:
    body = "x" * 500_000
    judge = Remembering()
    with opened(lab.gateway) as queue, http_server(lab.server, 80, body=body):
        rules(lab.gateway, "FORWARD -p tcp -j NFQUEUE")
        with served(queue, judge):
            assert http_get(lab.client, lab.server.address(family)).answer == body
    largest = max(judge.seen, key=lambda packet: packet.wire_length)
    assert largest.wire_length > 1_500
    assert len(largest.data) == min(largest.wire_length, 65_531)
    assert not largest.checksum_ready


def test_the_copy_range_cuts_the_copy_and_not_the_packet(lab: Lab) -> None:
    with opened(lab.gateway, copy_range=60) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge = Remembering()
        send_datagrams(lab.client, lab.server.ipv4, PORT, 1, size=1_000)
        judge_all(queue, judge, 1)
        assert server.collect(1) == 1
        assert len(server.received[0].payload) == 1_000
    assert (len(judge.only.data), judge.only.wire_length) == (60, 1_028)
    assert queue.counters.truncated == 0


@both_families
def test_the_sender_of_an_output_packet_is_known(lab: Lab, family: int) -> None:
    with opened(lab.client) as queue, udp_counter(lab.server, PORT):
        rules(lab.client, "OUTPUT -p udp -j NFQUEUE")
        judge = Remembering()
        say = f"echo hello > /dev/udp/{lab.server.address(family)}/{PORT}"
        lab.client.run("setpriv", "--reuid=1234", "--regid=2345", "--clear-groups", "bash", "-c", say)
        judge_all(queue, judge, 1)
    packet = judge.only
    assert (packet.hook, packet.uid, packet.gid) == (Hook.OUTPUT, 1234, 2345)
    assert (packet.iifname, packet.oifname, packet.hwaddr) == (None, "eth0", None)


def test_the_receiver_of_an_input_packet_is_not_taken_for_its_sender(lab: Lab) -> None:
    judge = Remembering()
    with opened(lab.server) as queue, http_server(lab.server, 80, body="x" * 100_000):
        rules(lab.server, "INPUT -p tcp -j NFQUEUE")
        with served(queue, judge):
            assert http_get(lab.client, lab.server.ipv4).outcome is Outcome.CONNECTED
    assert {(packet.hook, packet.uid, packet.gid) for packet in judge.seen} == {(Hook.INPUT, None, None)}
    assert {(packet.iifname, packet.oifname) for packet in judge.seen} == {("eth0", None)}


@both_families
def test_a_mark_is_seen_by_later_rules(lab: Lab, family: int) -> None:
    def mark_odd_ones(packet: Packet) -> Verdict:
        return Verdict(ACCEPT, Reason.RULE, mark=0x2A if number_of(packet) % 2 else None)

    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP, "POSTROUTING -t mangle -m mark --mark 0x2a -j DROP")
        send_datagrams(lab.client, lab.server.address(family), PORT, 20)
        judge_all(queue, mark_odd_ones, 20)
        assert server.collect(10) == 10
        assert {int(datagram.payload[:10]) % 2 for datagram in server.received} == {0}


def test_a_mark_is_seen_and_can_be_cleared(lab: Lab) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, "PREROUTING -t mangle -j MARK --set-mark 0x7")
        rules(lab.gateway, UDP, "POSTROUTING -t mangle -p udp -m mark ! --mark 0 -j DROP")
        judge = Remembering(always(ACCEPT, mark=0))
        send_datagrams(lab.client, lab.server.ipv4, PORT, 3)
        judge_all(queue, judge, 3)
        assert server.collect(3) == 3
    assert {packet.mark for packet in judge.seen} == {0x7}


@both_families
def test_a_packet_sent_to_another_queue_is_judged_there(lab: Lab, family: int) -> None:
    to_seven = Decision(Kind.QUEUE, queue=7)
    with opened(lab.gateway) as first, opened(lab.gateway, 7) as second, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send_datagrams(lab.client, lab.server.address(family), PORT, 5)
        assert judge_all(first, always(to_seven, mark=0x9), 5) == 5
        judge = Remembering()
        assert judge_all(second, judge, 5) == 5
        assert server.collect(5) == 5
    assert {packet.mark for packet in judge.seen} == {0x9}
    assert (first.counters.requeued, second.counters.accepted) == (5, 5)


def test_a_packet_for_a_queue_without_a_listener_is_dropped(lab: Lab) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send_datagrams(lab.client, lab.server.ipv4, PORT, 5)
        judge_all(queue, always(Decision(Kind.QUEUE, queue=8)), 5)
        assert server.collect(0) == 0


@both_families
def test_repeat_runs_the_chain_again_with_the_new_mark(lab: Lab, family: int) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, "FORWARD -m mark --mark 0x1 -j ACCEPT", UDP)
        send_datagrams(lab.client, lab.server.address(family), PORT, 5)
        assert judge_all(queue, always(Decision(Kind.REPEAT), mark=0x1), 5) == 5
        assert server.collect(5) == 5
    assert queue.counters.repeated == 5


@pytest.mark.parametrize(
    ("family", "answer", "rule_answer", "outcome"),
    [
        (4, RejectWith.PORT_UNREACHABLE, "icmp-port-unreachable", Outcome.REFUSED),
        (6, RejectWith.PORT_UNREACHABLE, "icmp6-port-unreachable", Outcome.REFUSED),
        (4, RejectWith.ADMIN_PROHIBITED, "icmp-admin-prohibited", Outcome.UNREACHABLE),
        (6, RejectWith.ADMIN_PROHIBITED, "icmp6-adm-prohibited", Outcome.UNREACHABLE),
    ],
)
def test_a_rejected_datagram_is_answered(
    lab: Lab, family: int, answer: RejectWith, rule_answer: str, outcome: Outcome
) -> None:
    with opened(lab.gateway) as queue, udp_echo(lab.server, PORT) as server:
        rule = f"FORWARD -m mark --mark {answer.code << 28:#x}/0xf0000000 -j REJECT --reject-with {rule_answer}"
        rules(lab.gateway, rule, UDP, families=(family,))
        with served(queue, always(Decision(Kind.REJECT, reject=answer))):
            assert udp_ask(lab.client, lab.server.address(family), PORT).outcome is outcome
        assert server.collect(0) == 0
    assert (queue.counters.received, queue.counters.rejected) == (1, 1)


@both_families
def test_a_rejected_connection_is_reset(lab: Lab, family: int) -> None:
    with opened(lab.gateway) as queue, tcp_server(lab.server, 80):
        rules(
            lab.gateway,
            "FORWARD -p tcp -m mark --mark 0x10000000/0xf0000000 -j REJECT --reject-with tcp-reset",
            "FORWARD -p tcp -j NFQUEUE",
        )
        with served(queue, always(Decision(Kind.REJECT, reject=RejectWith.TCP_RESET), mark=0x5)):
            assert tcp_connect(lab.client, lab.server.address(family), 80).outcome is Outcome.REFUSED
    assert (queue.counters.received, queue.counters.rejected) == (1, 1)


def test_a_reject_that_no_rule_takes_is_dropped_and_does_not_loop(lab: Lab) -> None:
    with opened(lab.gateway, failure={Reason.ERROR: Kind.ACCEPT}) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge = Remembering(always(Decision(Kind.REJECT, reject=RejectWith.TCP_RESET)))
        send_datagrams(lab.client, lab.server.ipv4, PORT, 1)
        assert judge_all(queue, judge, 2) == 2
        assert server.collect(0) == 0
    assert judge.only.mark == 0
    assert (queue.counters.rejected, queue.counters.dropped, queue.counters.failures) == (1, 1, {Reason.ERROR: 1})
    assert queue.counters.last_failure == "mark 0x10000000: bits of 0xf0000000 were set on arrival"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision(Kind.QUEUE, queue=0), "queue 0: the packet is in that queue, expected another"),
        (Decision(Kind.QUEUE, queue=70_000), "queue 70000: expected 0 to 65535"),
        (Decision(Kind.REJECT), "reject without an answer: expected one of RejectWith"),
    ],
    ids=str,
)
def test_a_verdict_that_no_kernel_takes_drops_also_where_errors_are_accepted(
    lab: Lab, decision: Decision, said: str
) -> None:
    told: list[tuple[int, str, str]] = []
    with opened(lab.gateway, failure={Reason.ERROR: Kind.ACCEPT}) as queue, udp_counter(lab.server, PORT) as server:
        queue.own.tell = lambda packet, verdict: told.append(
            (0 if packet is None else packet.wire_length, str(verdict.decision), verdict.detail)
        )
        rules(lab.gateway, UDP)
        send_datagrams(lab.client, lab.server.ipv4, PORT, 1)
        assert judge_all(queue, always(decision), 1) == 1
        assert server.collect(0) == 0
    assert [(kind, words) for _, kind, words in told] == [("drop", said)]
    assert told[0][0] > 28
    assert (queue.counters.dropped, queue.counters.failures) == (1, {Reason.ERROR: 1})


def test_queues_are_served_side_by_side(lab: Lab) -> None:
    with opened(lab.gateway, 1) as one, opened(lab.gateway, 2) as two, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, f"FORWARD -p udp --dport {PORT} -j NFQUEUE --queue-num 1")
        rules(lab.gateway, f"FORWARD -p udp --dport {PORT + 1} -j NFQUEUE --queue-num 2")
        send_datagrams(lab.client, lab.server.ipv4, PORT, 4)
        send_datagrams(lab.client, lab.server.ipv4, PORT + 1, 6)
        assert judge_all(two, dropping, 6) == 6
        assert judge_all(one, accepting, 4) == 4
        assert server.collect(4) == 4


def test_one_call_is_bounded(lab: Lab) -> None:
    with opened(lab.gateway) as queue:
        rules(lab.gateway, UDP)
        send_datagrams(lab.client, lab.server.ipv4, PORT, 150)
        assert [queue.receive(dropping) for _ in range(4)] == [64, 64, 22, 0]

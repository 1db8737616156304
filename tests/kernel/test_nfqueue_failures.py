"""What goes wrong with a queue: nothing is let through by it, everything is counted, and the loop goes on."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
from pathlib import Path

import pytest

from qfilter.errors import QueueError, QueueTakenError
from qfilter.model.packet import Packet
from qfilter.model.verdict import ACCEPT, Kind, Reason, Verdict
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.channel import Channel
from qfilter.netlink.message import Message, encode_attributes, encode_message
from qfilter.netlink.nfnetlink import CONFIG, NETLINK_NETFILTER, PACKET, ConfigFlag, CopyMode, encode_config
from qfilter.netlink.queues import bound_queues
from qfilter.queues import nfqueue
from tests.kernel.nfqueue import PORT, Remembering, accepting, dropping, judge_all, number_of, opened, rules
from tests.lab.clients import send_datagrams
from tests.lab.process import LabError, wait_until
from tests.lab.servers import udp_counter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

UDP = "FORWARD -p udp -j NFQUEUE --queue-num 0"


def send(lab: Lab, count: int, size: int = 18) -> int:
    return send_datagrams(lab.client, lab.server.ipv4, PORT, count, size=size)


def test_a_taken_queue_names_its_holder(lab: Lab) -> None:
    with opened(lab.gateway, 5), pytest.raises(QueueTakenError) as taken, opened(lab.gateway, 5):
        pass
    comm = Path("/proc/self/comm").read_text().strip()
    assert (taken.value.number, taken.value.holder) == (5, f"process {os.getpid()} ({comm})")
    assert str(taken.value).startswith(f"bind queue 5: already held by process {os.getpid()}")


def test_a_queue_that_was_closed_can_be_opened_again(lab: Lab) -> None:
    for _ in range(3):
        with opened(lab.gateway, 5) as queue:
            assert set(lab.gateway.queues()) == {5}
        queue.close()
        assert lab.gateway.queues() == {}
    with pytest.raises(QueueError, match="read queue 5: Bad file descriptor"):
        queue.receive(dropping)


def test_the_settings_are_the_kernels(lab: Lab) -> None:
    with opened(lab.gateway, 5, length=7, copy_range=200) as queue, lab.gateway.entered():
        row = bound_queues()[5]
        assert (row.copy_mode, row.copy_range, row.waiting, row.last_id) == (CopyMode.PACKET, 200, 0, 0)
        assert queue.warnings == ()


def test_the_probe_of_flags_does_not_lie(lab: Lab) -> None:
    """What the probe says of an unbound queue is what a bound one takes."""
    with opened(lab.gateway, 0xFFFF), lab.gateway.entered():
        beside_a_bound_one = queue_flags()
    with lab.gateway.entered():
        assert queue_flags() == beside_a_bound_one
        with opened(lab.gateway, fail_open=bool(beside_a_bound_one & ConfigFlag.FAIL_OPEN)) as queue:
            missing = (ConfigFlag.UID_GID | ConfigFlag.GSO) & ~beside_a_bound_one
            assert len(queue.warnings) == len(missing)
        channel = Channel.open(NETLINK_NETFILTER)
        answer, _ = channel.ask(CONFIG, encode_config(0, flags=ConfigFlag(1 << 20)))
        channel.close()
    assert answer == errno.EOPNOTSUPP


def test_without_cap_net_admin_the_error_says_so(lab: Lab) -> None:
    script = "from qfilter.queues.nfqueue import NfQueue; NfQueue.open(0, failure={})"
    with pytest.raises(LabError, match="PrivilegeError: NFQUEUE: expected root or CAP_NET_ADMIN"):
        lab.gateway.run("setpriv", "--bounding-set=-net_admin", sys.executable, "-c", script)


def test_a_judge_that_raises_drops_its_packet_and_the_next_is_judged(lab: Lab) -> None:
    def fails_at_three(packet: Packet) -> Verdict:
        if number_of(packet) == 3:
            raise KeyError("dport")
        return Verdict(ACCEPT, Reason.RULE)

    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        assert judge_all(queue, fails_at_three, send(lab, 10)) == 10
        assert server.collect(9) == 9
    assert (queue.counters.accepted, queue.counters.dropped) == (9, 1)
    assert (queue.counters.failures, queue.counters.last_failure) == ({Reason.ERROR: 1}, "KeyError: 'dport'")


def test_the_outcome_of_an_error_is_the_policys(lab: Lab) -> None:
    def fails(_: Packet) -> Verdict:
        raise RecursionError

    with opened(lab.gateway, failure={Reason.ERROR: Kind.ACCEPT}) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge_all(queue, fails, send(lab, 4))
        assert server.collect(4) == 4
    assert (queue.counters.accepted, queue.counters.failures) == (4, {Reason.ERROR: 4})


@pytest.mark.parametrize("mark", [0x1000_0000, 0xFFFF_FFFF])
def test_a_verdict_with_a_hand_back_mark_of_its_own_is_an_error(lab: Lab, mark: int) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge_all(queue, lambda _: Verdict(ACCEPT, Reason.RULE, mark=mark), send(lab, 2))
        assert server.collect(0) == 0
    assert (queue.counters.dropped, queue.counters.failures) == (2, {Reason.ERROR: 2})


def test_a_packet_that_arrives_with_a_hand_back_bit_is_not_judged(lab: Lab) -> None:
    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, "PREROUTING -t mangle -j MARK --set-mark 0x40000001", UDP)
        judge = Remembering()
        assert judge_all(queue, judge, send(lab, 3)) == 3
        assert server.collect(0) == 0
    assert judge.seen == []
    assert (queue.counters.dropped, queue.counters.failures) == (3, {Reason.ERROR: 3})


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_passes_through_and_leaves_no_packet_behind(lab: Lab, stop: type[BaseException]) -> None:
    def interrupted_at_two(packet: Packet) -> Verdict:
        if number_of(packet) == 2:
            raise stop
        return Verdict(ACCEPT, Reason.RULE)

    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send(lab, 5)
        with pytest.raises(stop):
            judge_all(queue, interrupted_at_two, 5)
        assert queue.receive(accepting) == 2
        assert server.collect(4) == 4
        assert lab.gateway.queues()[0].waiting == 0


def test_a_full_socket_loses_packets_and_says_how_many(lab: Lab) -> None:
    with opened(lab.gateway, socket_buffer=8_192) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send(lab, 50)
        early = judge_all(queue, accepting, 1)
        assert 0 < early < 50
        judge_all(queue, accepting, send(lab, 1))
        assert queue.counters.lost == lab.gateway.queues()[0].dropped_socket == 50 - early
        assert server.collect(early + 1) == early + 1
    assert (queue.counters.received, queue.counters.errors) == (early + 1, {})


def test_a_full_queue_drops(lab: Lab) -> None:
    with opened(lab.gateway, length=5) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send(lab, 20)
        assert lab.gateway.queues()[0].dropped_full == 15
        assert judge_all(queue, accepting, 5) == 5
        assert server.collect(5) == 5


def test_a_full_queue_lets_packets_through_only_when_asked_to(lab: Lab) -> None:
    with opened(lab.gateway, length=5, fail_open=True) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send(lab, 20)
        assert server.collect(15) == 15
        assert judge_all(queue, dropping, 5) == 5
        assert server.collect(15) == 15


def test_a_full_socket_of_a_queue_that_fails_open_tells_what_it_let_through(lab: Lab) -> None:
    with opened(lab.gateway, socket_buffer=8_192, fail_open=True) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        send(lab, 50)
        judged = judge_all(queue, dropping, 1) + judge_all(queue, dropping, send(lab, 1))
        assert queue.counters.lost == 51 - judged
        assert server.collect(51 - judged) == 51 - judged


def test_a_verdict_for_a_packet_that_is_gone_is_counted(lab: Lab) -> None:
    def too_late(_: Packet) -> Verdict:
        lab.gateway.ip("link set wan down", "link set wan up")
        return Verdict(ACCEPT, Reason.RULE)

    with opened(lab.gateway) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge_all(queue, too_late, send(lab, 1))
        assert queue.counters.errors == {errno.ENOENT: 1}
        assert judge_all(queue, accepting, send(lab, 1)) == 1
        assert server.collect(1) == 1


@pytest.mark.parametrize(("outcome", "through"), [(Kind.DROP, 0), (Kind.ACCEPT, 1)])
def test_a_message_that_does_not_fit_gets_its_outcome(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, outcome: Kind, through: int
) -> None:
    monkeypatch.setattr(nfqueue, "_LARGEST_MESSAGE", 500)
    with opened(lab.gateway, failure={Reason.TRUNCATED: outcome}) as queue, udp_counter(lab.server, PORT) as server:
        rules(lab.gateway, UDP)
        judge = Remembering()
        assert judge_all(queue, judge, send(lab, 1, size=1_000)) == 1
        assert server.collect(through) == through
        assert judge_all(queue, judge, send(lab, 1)) == 1
        assert server.collect(through + 1) == through + 1
    assert number_of(judge.only) == 0
    assert (queue.counters.truncated, queue.counters.failures) == (1, {Reason.TRUNCATED: 1})
    assert (queue.counters.lost, queue.counters.errors) == (0, {})


def test_only_the_kernel_is_listened_to(lab: Lab) -> None:
    """Another process with CAP_NET_ADMIN sends a queued packet of its own making."""
    with opened(lab.gateway) as queue:
        attributes = [(1, bytes.fromhex("00000007 0800 02")), (10, b"E" + bytes(27))]
        forged = encode_message(Message(type=PACKET, body=b"\2\0\0\0" + encode_attributes(attributes)))
        with lab.gateway.new_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as forger:
            forger.sendto(forged, (lab.gateway.queues()[0].port_id, 0))
        assert select.select([queue], [], [], 5)[0]
        assert queue.receive(accepting) == 0
        assert not select.select([queue], [], [], 0)[0]
    assert (queue.counters.received, queue.counters.errors) == (0, {})


CLOSE_FULL = """
import contextlib, socket, threading
from qfilter.queues.nfqueue import NfQueue
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for size in range(4_096, 8_192, 128):
    queue = NfQueue.open(0, socket_buffer=size, failure={})
    for _ in range(100):
        with contextlib.suppress(OSError):
            sender.sendto(bytes(18), ("127.0.0.1", 9))
    closing = threading.Thread(target=queue.close)
    closing.start()
    closing.join()
print("closed")
"""


def test_closing_a_queue_whose_socket_is_full_ends(lab: Lab) -> None:
    """In a process of its own: the package alone would wait for ever, holding the interpreter's lock."""
    rules(lab.gateway, "OUTPUT -p udp -j NFQUEUE", families=(4,))
    with udp_counter(lab.gateway, PORT) as server:
        assert lab.gateway.run(sys.executable, "-c", CLOSE_FULL).stdout == "closed\n"
        assert server.collect(0) == 0
    assert lab.gateway.queues() == {}


HOLD = """
import signal
from qfilter.queues.nfqueue import NfQueue
queue = NfQueue.open(0, failure={})
print("bound", flush=True)
signal.pause()
"""


def test_a_killed_consumer_lets_nothing_through(lab: Lab) -> None:
    with udp_counter(lab.server, PORT) as server, lab.gateway.start(sys.executable, "-c", HOLD) as consumer:
        consumer.wait_for("bound")
        rules(lab.gateway, UDP)
        send(lab, 10)
        assert lab.gateway.queues()[0].waiting == 10
        consumer.stop(signal.SIGKILL)
        wait_until(lambda: not lab.gateway.queues(), "the kernel should unbind the queue of a dead process")
        send(lab, 10)
        assert server.collect(0) == 0
        with opened(lab.gateway) as queue:
            assert judge_all(queue, accepting, send(lab, 10)) == 10
            assert server.collect(10) == 10


def test_a_child_process_does_not_keep_the_queue(lab: Lab) -> None:
    with opened(lab.gateway) as queue:
        assert not os.get_inheritable(queue.fileno())
        held = [entry for entry in Path("/proc/self/fd").iterdir() if _same(entry, queue.fileno())]
        assert len(held) == 2
        assert not any(os.get_inheritable(int(entry.name)) for entry in held)


def _same(entry: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(entry.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False

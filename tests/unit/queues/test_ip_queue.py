"""ip_queue's loop against a peer that plays the kernel."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from qfilter.errors import PrivilegeError, QueueError, QueueTakenError, UnsupportedError
from qfilter.fields import Family
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import ACCEPT, DROP, Decision, Kind, Reason, RejectWith, Verdict
from qfilter.netlink.ipq import encode_verdict
from qfilter.netlink.nfnetlink import CopyMode, Outcome
from qfilter.queues.base import PacketQueue
from qfilter.queues.ip_queue import IpQueue
from tests.unit.queues.capture_files import ECHO6, SYN
from tests.unit.queues.fake_ip_queue import HEADER, NETLINK_USERSOCK, FakeKernel

Opener = Callable[..., IpQueue]


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with FakeKernel() as kernel:
        yield kernel


@pytest.fixture
def opened(kernel: FakeKernel) -> Iterator[Opener]:
    queues = []

    def opener(
        mode: CopyMode = CopyMode.PACKET,
        copy_range: int = 65_535,
        *,
        failure: dict[Reason, Kind] | None = None,
        socket_buffer: int | None = None,
    ) -> IpQueue:
        queue = kernel.open(
            lambda: IpQueue.open(
                mode,
                copy_range,
                failure=failure or {},
                socket_buffer=socket_buffer,
                protocol=NETLINK_USERSOCK,
                peer=kernel.port,
            )
        )
        queues.append(queue)
        return queue

    yield opener
    for queue in queues:
        queue.close()


def by(decision: Decision, mark: int | None = None) -> Callable[[Packet], Verdict]:
    return lambda packet: Verdict(decision, Reason.RULE, "r", mark=mark)


def failing(packet: Packet) -> Verdict:
    raise RuntimeError("boom")


def test_accept_and_drop(kernel: FakeKernel, opened: Opener) -> None:
    queue: PacketQueue = opened()
    first, second = kernel.queue(SYN), kernel.queue(SYN)
    decisions = iter([ACCEPT, DROP])
    assert queue.receive(lambda packet: Verdict(next(decisions), Reason.RULE)) == 2
    assert kernel.serve() == [f"{first:#x} 1", f"{second:#x} 0"]
    assert kernel.waiting == set()
    assert (queue.counters.received, queue.counters.accepted, queue.counters.dropped) == (2, 1, 1)
    assert queue.receive(failing) == 0


def test_another_policy_answers_by_its_own_outcomes_and_keeps_the_copy_range(
    kernel: FakeKernel, opened: Opener
) -> None:
    queue: PacketQueue = opened(copy_range=128)
    queue.configure(copy_range=128, length=9, fail_open=False, conntrack=False, socket_buffer=None)
    queue.answer_by(mark_mask=0, failure={Reason.ERROR: Kind.ACCEPT})
    first = kernel.queue(SYN)
    queue.receive(failing)
    assert kernel.serve() == [f"{first:#x} 1"]
    with pytest.raises(QueueError, match="configure ip_queue: copy range 256 instead of 128: expected a restart"):
        queue.configure(copy_range=256, length=9, fail_open=False, conntrack=False, socket_buffer=None)


def test_what_the_judge_sees(kernel: FakeKernel, opened: Opener) -> None:
    queue, seen = opened(), []

    def judge(packet: Packet) -> Verdict:
        seen.append(packet)
        return Verdict(ACCEPT, Reason.DEFAULT)

    kernel.queue(SYN, hook=1, indev=b"eth0", mark=7, hwaddr=b"\x02\0\x5e\0\x53\1", time=(1_000_000_000, 500_000))
    kernel.queue(ECHO6, hook=3, indev=b"", outdev=b"wlan0")
    assert queue.receive(judge) == 2
    assert seen == [
        Packet(
            data=SYN,
            hook=Hook.INPUT,
            wire_length=40,
            iifname="eth0",
            mark=7,
            hwaddr=b"\x02\0\x5e\0\x53\1",
            timestamp=1_000_000_000.5,
        ),
        Packet(data=ECHO6, hook=Hook.OUTPUT, wire_length=48, oifname="wlan0"),
    ]


@pytest.mark.parametrize(
    ("data", "copy_range", "copied", "wire_length"),
    [
        (SYN, 65_535, 40, 40),
        (SYN[:2] + (60).to_bytes(2) + SYN[4:] + bytes(20), 40, 40, 60),
        (SYN[:2] + (60).to_bytes(2) + SYN[4:] + bytes(20), 60, 60, 60),
        (SYN[:2] + (60).to_bytes(2) + SYN[4:] + bytes(20), 61, 60, 60),
        (ECHO6, 40, 40, 48),
        # a header that claims less than was copied is left for the engine to judge
        (SYN[:2] + (7).to_bytes(2) + SYN[4:], 40, 40, 40),
    ],
)
def test_the_wire_length_of_a_cut_packet_is_what_ip_claims(
    kernel: FakeKernel, opened: Opener, data: bytes, copy_range: int, copied: int, wire_length: int
) -> None:
    queue, seen = opened(copy_range=copy_range), []

    def judge(packet: Packet) -> Verdict:
        seen.append((len(packet.data), packet.wire_length))
        return Verdict(DROP, Reason.DEFAULT)

    kernel.queue(data)
    queue.receive(judge)
    assert seen == [(copied, wire_length)]


@pytest.mark.parametrize(
    ("mode", "words"),
    [(CopyMode.NONE, "mode 0 range 0"), (CopyMode.META, "mode 1 range 0"), (CopyMode.PACKET, "mode 2 range 128")],
)
def test_modes(kernel: FakeKernel, opened: Opener, mode: CopyMode, words: str) -> None:
    opened(mode, 128)
    assert kernel.log == [words]


def test_in_the_mode_none_nothing_comes(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened(CopyMode.NONE)
    assert kernel.queue(SYN) is None
    assert queue.receive(failing) == 0


@pytest.mark.parametrize(("failure", "value"), [({}, 0), ({Reason.TRUNCATED: Kind.ACCEPT}, 1)])
def test_in_the_mode_meta_every_packet_is_truncated(
    kernel: FakeKernel, opened: Opener, failure: dict[Reason, Kind], value: int
) -> None:
    queue = opened(CopyMode.META, failure=failure)
    waiting = kernel.queue(SYN)
    assert queue.receive(failing) == 1
    assert kernel.serve() == [f"{waiting:#x} {value}"]
    assert queue.counters.failures == Counter({Reason.TRUNCATED: 1})
    assert queue.counters.last_failure == "the kernel copied nothing of the packet"


@pytest.mark.parametrize(("failure", "value"), [({}, 0), ({Reason.ERROR: Kind.ACCEPT}, 1)])
def test_a_judge_that_raises(kernel: FakeKernel, opened: Opener, failure: dict[Reason, Kind], value: int) -> None:
    queue = opened(failure=failure)
    first, second = kernel.queue(SYN), kernel.queue(SYN)
    assert queue.receive(failing) == 2
    assert kernel.serve() == [f"{first:#x} {value}", f"{second:#x} {value}"]
    assert queue.counters.failures == Counter({Reason.ERROR: 2})
    assert queue.counters.last_failure == "RuntimeError: boom"


@pytest.mark.parametrize(
    ("decision", "mark", "words"),
    [
        (
            Decision(Kind.REJECT, reject=RejectWith.TCP_RESET),
            None,
            "verdict reject tcp-reset: expected accept or drop from ip_queue",
        ),
        (Decision(Kind.QUEUE, queue=3), None, "verdict queue 3: expected accept or drop from ip_queue"),
        (Decision(Kind.REPEAT), None, "verdict repeat: expected accept or drop from ip_queue"),
        (ACCEPT, 0x8, "mark 0x8: expected none with ip_queue"),
    ],
)
def test_what_the_kernel_cannot_do_is_dropped(
    kernel: FakeKernel, opened: Opener, decision: Decision, mark: int | None, words: str
) -> None:
    queue = opened(failure={Reason.ERROR: Kind.ACCEPT})
    waiting = kernel.queue(SYN, mark=0x7)
    queue.receive(by(decision, mark))
    assert kernel.serve() == [f"{waiting:#x} 0"]
    assert (queue.counters.dropped, queue.counters.failures[Reason.ERROR]) == (1, 1)
    assert queue.counters.last_failure == words


def test_a_mark_that_stays_as_it_is(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    waiting = kernel.queue(SYN, mark=0x7)
    queue.receive(by(ACCEPT, 0x7))
    assert kernel.serve() == [f"{waiting:#x} 1"]


def test_a_hook_that_no_ip_packet_has(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    waiting = kernel.queue(SYN, hook=5)
    queue.receive(by(ACCEPT))
    assert kernel.serve() == [f"{waiting:#x} 0"]
    assert queue.counters.failures == Counter({Reason.ERROR: 1})


def test_an_interrupt_passes_and_its_packet_is_dropped(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    waiting = kernel.queue(SYN)

    def interrupted(packet: Packet) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.receive(interrupted)
    assert kernel.serve() == [f"{waiting:#x} 0"]


def test_a_verdict_for_a_packet_that_is_gone(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    first, second = kernel.queue(SYN), kernel.queue(SYN)
    assert first is not None
    kernel.waiting.remove(first)  # its interface went down
    queue.receive(by(ACCEPT))
    assert kernel.serve() == [f"{second:#x} 1"]
    assert queue.receive(by(ACCEPT)) == 0
    assert queue.counters.errors == Counter({errno.ENOENT: 1})
    third = kernel.queue(SYN)
    assert queue.receive(by(ACCEPT)) == 1
    assert kernel.serve() == [f"{third:#x} 1"]


def test_a_verdict_with_a_payload_replaces_the_packet(kernel: FakeKernel, opened: Opener) -> None:
    """The loop never sends one; the kernel's side reads what the codec makes of it."""
    queue = opened()
    waiting = kernel.queue(SYN)
    assert waiting is not None
    body = encode_verdict(waiting, Outcome.ACCEPT, SYN[:21])
    message = HEADER.pack(HEADER.size + len(body), 18, 1, 0, os.getpid()) + body
    with socket.socket(fileno=os.dup(queue.fileno())) as same:
        port = same.getsockname()[0]
        same.send(message[:12] + port.to_bytes(4, sys.byteorder) + body)
    assert kernel.serve() == [f"{waiting:#x} 1 payload {SYN[:21].hex()}"]


@pytest.mark.parametrize(
    ("body_after_id", "words"),
    [
        (bytes(80), "netlink message type 19 of 88 bytes: expected a packet"),
        (bytes(80) + (9).to_bytes(8, sys.byteorder), "packet length 9: expected at most the 0 bytes of its message"),
        (bytes(80_000), "message longer than 69631 bytes"),
    ],
)
def test_a_message_that_says_no_more_than_its_id(
    kernel: FakeKernel, opened: Opener, body_after_id: bytes, words: str
) -> None:
    queue = opened(failure={Reason.ERROR: Kind.ACCEPT})
    kernel.waiting.add(0x1234)
    kernel.send(19, (0x1234).to_bytes(8, sys.byteorder) + body_after_id)
    assert queue.receive(by(ACCEPT)) == 1
    assert kernel.serve() == ["0x1234 0"]
    assert queue.counters.failures == Counter({Reason.TRUNCATED: 1})
    assert queue.counters.last_failure == words


def test_a_message_that_says_nothing(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    kernel.socket.sendto(b"\xff" * 20, (kernel.holder, 0))
    kernel.send(2, b"")
    waiting = kernel.queue(SYN)
    assert queue.receive(by(ACCEPT)) == 1
    assert kernel.serve() == [f"{waiting:#x} 1"]
    assert queue.counters.errors == Counter({errno.EBADMSG: 2})


def test_an_overrun_is_counted_and_the_loop_goes_on(kernel: FakeKernel, opened: Opener) -> None:
    """The peer's own messages fill the socket; ENOBUFS comes from a kernel or, as here, from a multicast."""
    queue = opened(socket_buffer=4_096)
    ids = []
    with socket.socket(fileno=os.dup(queue.fileno())) as same:
        same.setsockopt(270, 1, 1)  # SOL_NETLINK, NETLINK_ADD_MEMBERSHIP
    kernel.socket.setblocking(False)
    try:
        while True:
            ids.append(kernel.queue(SYN))
    except BlockingIOError:
        assert len(ids) > 1
    with pytest.raises(ConnectionRefusedError):  # after the multicast the message goes to port 0, where nobody is
        kernel.socket.sendto(bytes(1 << 15), (0, 1))
    assert queue.receive(by(ACCEPT)) == len(ids)
    assert kernel.serve() == [f"{waiting:#x} 1" for waiting in ids]
    assert queue.counters.errors == Counter({errno.ENOBUFS: 1})


def test_one_receive_is_bounded(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened(socket_buffer=1 << 20)
    for _ in range(65):
        kernel.queue(SYN)
    assert [queue.receive(by(DROP)) for _ in range(3)] == [64, 1, 0]


def test_nobody_else_poses_as_the_kernel(kernel: FakeKernel, opened: Opener) -> None:
    opened()
    with FakeKernel(holder=kernel.holder, mode=2) as stranger, pytest.raises(ConnectionRefusedError):
        stranger.queue(SYN)


def test_a_peer_that_is_gone(kernel: FakeKernel, opened: Opener) -> None:
    queue = opened()
    kernel.queue(SYN)
    kernel.socket.close()
    assert queue.receive(by(ACCEPT)) == 1
    assert queue.counters.errors == Counter({errno.ECONNREFUSED: 1})


def test_a_closed_queue(opened: Opener) -> None:
    queue = opened()
    queue.close()
    queue.close()
    with pytest.raises(QueueError, match="read ip_queue: Bad file descriptor"):
        queue.receive(by(ACCEPT))


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (errno.EPERM, PrivilegeError, "ip_queue: expected root or CAP_NET_ADMIN"),
        (errno.EBUSY, QueueTakenError, r"bind queue 0: already held by an unknown process \(netlink port 0\)"),
        (errno.EINVAL, QueueError, "open ip_queue: Invalid argument"),
    ],
)
def test_a_mode_that_is_refused(
    kernel: FakeKernel, opened: Opener, refusal: int, kind: type[Exception], words: str
) -> None:
    kernel.refusal = refusal
    with pytest.raises(kind, match=words):
        opened()


@pytest.mark.parametrize("copy_range", [0, 39, 65_536])
def test_a_copy_range_outside_its_bounds(copy_range: int) -> None:
    with pytest.raises(ValueError, match=f"copy range {copy_range}: expected 40 to 65535"):
        IpQueue.open(copy_range=copy_range, failure={})


@pytest.mark.parametrize("family", Family)
def test_a_kernel_without_it_says_so(family: Family) -> None:
    """Every kernel from 3.5 on, which is every one that runs Python 3.11 with this test."""
    with pytest.raises(UnsupportedError) as caught:
        IpQueue.open(family=family, failure={})
    assert str(caught.value) == (
        "ip_queue: this kernel has none, Linux 3.5 removed it: expected NFQUEUE (`queue: {target: nfqueue}`)"
    )

"""ip_queue, the packet queue of kernels before 3.5: what `-j QUEUE` leads to there.

One queue a family, one process that holds it, and no more than a verdict for an answer: the kernel takes neither a mark
nor the number of another queue. Numbers and their meanings are in `qfilter.netlink.ipq`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from qfilter.errors import PrivilegeError, QueueError, QueueTakenError, UnsupportedError
from qfilter.fields import CONNTRACK, Family
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import Kind, Reason, Verdict
from qfilter.netlink.ipq import (
    COPY_LIMIT,
    MODE,
    NETLINK_FIREWALL,
    NETLINK_IP6_FW,
    PACKET,
    VERDICT,
    QueuedPacket,
    cut_packet_id,
    decode_packet,
    encode_mode,
    encode_verdict,
)
from qfilter.netlink.message import ACK, ERROR, REQUEST, Message, decode_error, decode_messages, encode_message
from qfilter.netlink.nfnetlink import CopyMode, Outcome
from qfilter.queues.base import Judge, OwnVerdicts, QueueCounters

VERDICTS = frozenset({Kind.ACCEPT, Kind.DROP})
"""What ip_queue can do with a packet. Reject and repeat need a mark to come back with; queue needs a number."""
UNREADABLE = frozenset({"uid", "gid", "physin", "physout"}) | CONNTRACK
"""Fields that no packet of ip_queue carries."""

_PROTOCOLS = {Family.IPV4: NETLINK_FIREWALL, Family.IPV6: NETLINK_IP6_FW}
_PEERS = {Family.IPV4: Path("/proc/net/ip_queue"), Family.IPV6: Path("/proc/net/ip6_queue")}
_KERNEL = 0
_SHORTEST_RANGE = 40
_OUTCOMES = {Kind.ACCEPT: Outcome.ACCEPT, Kind.DROP: Outcome.DROP}
_BATCH = 64
"""Packets a `receive` at most."""
_BUFFER = COPY_LIMIT + 4_096
_ANSWER_MILLISECONDS = 5_000
_SO_RCVBUFFORCE = 33


class IpQueue:
    """The queue of one family. It is in force from `open` to `close`."""

    number = 0
    """`-j QUEUE` has no number."""

    def __init__(self, netlink: socket.socket, family: Family, copy_range: int, failure: Mapping[Reason, Kind]) -> None:
        self.counters = QueueCounters()
        self.warnings: tuple[str, ...] = ()
        self._socket = netlink
        self._port_id = int(netlink.getsockname()[0])
        self.family = family
        self._copy_range = copy_range
        self.own = OwnVerdicts(self.counters, failure)
        self._buffer = bytearray(_BUFFER)

    @classmethod
    def open(
        cls,
        mode: CopyMode = CopyMode.PACKET,
        copy_range: int = COPY_LIMIT,
        *,
        family: Family = Family.IPV4,
        socket_buffer: int | None = None,
        failure: Mapping[Reason, Kind],
        protocol: int | None = None,
        peer: int = _KERNEL,
    ) -> Self:
        """Take the queue of `family`; packets come as soon as this returns.

        `copy_range` is the bytes of each packet that are copied in the mode PACKET, 40 to 65,535; in the mode META
        nothing is, and every packet gets the outcome of `truncated`; in the mode NONE the kernel drops them itself.
        `failure` is the outcome for each cause, drop where it has none. `protocol` and `peer`, a netlink port, are for
        somebody who plays the kernel. Raises PrivilegeError, UnsupportedError, QueueTakenError, QueueError, and
        ValueError for a copy range outside its bounds.
        """
        if not _SHORTEST_RANGE <= copy_range <= COPY_LIMIT:
            raise ValueError(f"copy range {copy_range}: expected {_SHORTEST_RANGE} to {COPY_LIMIT}")
        netlink = _open_socket(_PROTOCOLS[family] if protocol is None else protocol)
        queue = cls(netlink, family, copy_range, failure)
        try:
            # A connected netlink socket takes messages from its peer only: nobody else can pose as the kernel.
            netlink.connect((peer, 0))
            if socket_buffer is not None:
                netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, socket_buffer)
            queue._send(MODE, encode_mode(mode, copy_range if mode is CopyMode.PACKET else 0), ACK)
            queue._await_answer()
        except OSError as error:
            queue.close()
            raise _explained(error.errno or 0, family) from None
        except BaseException:
            queue.close()
            raise
        return queue

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return self._socket.fileno()

    def receive(self, judge: Judge) -> int:
        """Judge at most 64 waiting packets, see PacketQueue."""
        before = self.counters.received
        for _ in range(_BATCH):
            try:
                size, _, flags, _ = self._socket.recvmsg_into([self._buffer], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                # ENOBUFS: the kernel dropped packets that the socket had no room for. It says so once.
                if error.errno != errno.ENOBUFS:
                    raise QueueError("read ip_queue", os.strerror(error.errno or 0), error.errno or 0) from None
                self.counters.errors[errno.ENOBUFS] += 1
                continue
            self._take(bytes(memoryview(self._buffer)[:size]), bool(flags & socket.MSG_TRUNC), judge)
        return self.counters.received - before

    def configure(
        self, *, copy_range: int, length: int, fail_open: bool, conntrack: bool, socket_buffer: int | None
    ) -> None:
        """Only what it is already: the answer to another mode would be lost among packets. See PacketQueue."""
        if copy_range != self._copy_range:
            message = f"copy range {copy_range} instead of {self._copy_range}: expected a restart"
            raise QueueError("configure ip_queue", message)

    def answer_by(self, *, mark_mask: int, failure: Mapping[Reason, Kind]) -> None:
        """The outcomes of failures; nothing here can carry a mark. See PacketQueue."""
        self.own.outcomes = failure

    def close(self) -> None:
        """Let go of the queue; the kernel drops what is still waiting in it. A second call does nothing."""
        self._socket.close()

    def _take(self, datagram: bytes, cut: bool, judge: Judge) -> None:
        if cut:
            self.counters.truncated += 1
            self._give_up(datagram, f"message longer than {len(datagram)} bytes")
            return
        try:
            for message in decode_messages(datagram):
                if message.type == PACKET:
                    self._decide(decode_packet(message), judge)
                elif message.type == ERROR and (number := decode_error(message)):
                    self.counters.errors[number] += 1
        except ValueError as wrong:
            self.counters.errors[errno.EBADMSG] += 1
            self._give_up(datagram, str(wrong))

    def _give_up(self, datagram: bytes, words: str) -> None:
        """The outcome for a packet of which not more than the id is known."""
        packet_id = cut_packet_id(datagram)
        if packet_id is not None:
            self.counters.received += 1
            self._answer(packet_id, _OUTCOMES[self.own.fail(Reason.TRUNCATED, words)])

    def _decide(self, queued: QueuedPacket, judge: Judge) -> None:
        self.counters.received += 1
        outcome = Outcome.DROP
        try:
            outcome = self._judged(queued, judge)
        finally:
            # Also while a KeyboardInterrupt passes: without a verdict the packet would keep its place in the queue.
            self._answer(queued.id, outcome)

    def _judged(self, queued: QueuedPacket, judge: Judge) -> Outcome:
        if not queued.payload:
            return _OUTCOMES[self.own.fail(Reason.TRUNCATED, "the kernel copied nothing of the packet")]
        packet = self.own.attempt(lambda: self._packet(queued))
        if isinstance(packet, Kind):
            return _OUTCOMES[packet]
        verdict = self.own.attempt(lambda: judge(packet), packet)
        if isinstance(verdict, Kind):
            return _OUTCOMES[verdict]
        impossible = _impossible(verdict, queued.mark)
        if impossible:
            return _OUTCOMES[self.own.drop(impossible, packet)]
        self.counters.count(verdict.decision.kind)
        return _OUTCOMES[verdict.decision.kind]

    def _answer(self, packet_id: int, outcome: Outcome) -> None:
        try:
            self._send(VERDICT, encode_verdict(packet_id, outcome))
        except OSError as error:
            self.counters.errors[error.errno or 0] += 1

    def _packet(self, queued: QueuedPacket) -> Packet:
        return Packet(
            data=queued.payload,
            hook=Hook.from_number(queued.hook),
            wire_length=_wire_length(queued.payload, self._copy_range),
            iifname=_name(queued.indev),
            oifname=_name(queued.outdev),
            mark=queued.mark,
            hwaddr=queued.hwaddr,
            timestamp=queued.timestamp,
        )

    def _send(self, kind: int, body: bytes, flags: int = 0) -> None:
        # Unlike its successors ip_queue looks at the sender in the header, and takes 0 for nobody.
        message = Message(type=kind, flags=REQUEST | flags, port_id=self._port_id, body=body)
        self._socket.send(encode_message(message), socket.MSG_DONTWAIT)

    def _await_answer(self) -> None:
        """Take the answer to the mode, which comes before any packet. Raises OSError with the kernel's errno."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(_ANSWER_MILLISECONDS):
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        try:
            answer = next(decode_messages(self._socket.recv(_BUFFER, socket.MSG_DONTWAIT)))
            number = decode_error(answer)
        except ValueError as wrong:
            raise QueueError("open ip_queue", str(wrong)) from None
        if number:
            raise OSError(number, os.strerror(number))


def _open_socket(protocol: int) -> socket.socket:
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            raise UnsupportedError(
                "ip_queue: this kernel has none, Linux 3.5 removed it: expected NFQUEUE (`queue: {target: nfqueue}`)"
            ) from None
        raise QueueError("open ip_queue", os.strerror(error.errno or 0), error.errno or 0) from None
    try:
        netlink.bind((0, 0))
    except BaseException:
        netlink.close()
        raise
    return netlink


def _explained(number: int, family: Family) -> Exception:
    if number == errno.EPERM:
        return PrivilegeError("ip_queue: expected root or CAP_NET_ADMIN")
    if number == errno.EBUSY:
        port_id = _peer(family)
        return QueueTakenError(0, port_id, f"process {port_id}" if port_id else "an unknown process")
    return QueueError("open ip_queue", os.strerror(number), number)


def _peer(family: Family) -> int:
    """The netlink port that holds the queue, which libipq makes the process's id; 0 where the kernel does not say."""
    try:
        lines = _PEERS[family].read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.partition(":")[2]) for line in lines if line.startswith("Peer PID")), 0)


def _impossible(verdict: Verdict, mark: int) -> str:
    """Why the kernel cannot do what the verdict says, or nothing."""
    if verdict.decision.kind not in VERDICTS:
        return f"verdict {verdict.decision}: expected accept or drop from ip_queue"
    if verdict.decision.kind is Kind.ACCEPT and verdict.mark not in (None, mark):
        return f"mark {verdict.mark:#x}: expected none with ip_queue"
    return ""


def _wire_length(data: bytes, copy_range: int) -> int:
    """Bytes of the packet in the kernel.

    The kernel does not say it. Where the copy fills the range, it is what the IP header claims: packets that came in
    were cut to that length or dropped before any hook, and the kernel wrote the header of those that go out.
    """
    if len(data) < copy_range:
        return len(data)
    claimed = 40 + int.from_bytes(data[4:6], "big") if data[0] >> 4 == 6 else int.from_bytes(data[2:4], "big")
    return max(len(data), claimed)


def _name(interface: bytes) -> str | None:
    return interface.decode("utf-8", "surrogateescape") or None

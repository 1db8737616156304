"""NFQUEUE through the NetfilterQueue package, without what the package alone would lose.

The package binds the queue, dispatches messages and sends verdicts. It reads through `run_socket`, whose argument may
be any object with a `recv`: ours reads the queue's own socket into a buffer that no packet outgrows, counts what the
kernel complains about, and keeps the attributes that the package does not show. The queue's settings and the verdicts
that do not fit in the package's 8 bits go out over that same socket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Self

import netfilterqueue

from qfilter.errors import QueueError, QueueTakenError, UnsupportedError
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.marks import demand_hand_back
from qfilter.model.packet import Packet
from qfilter.model.verdict import Kind, Reason
from qfilter.netlink.capabilities import queue_flags
from qfilter.netlink.channel import Channel, Datagram
from qfilter.netlink.links import Links
from qfilter.netlink.message import ERROR, decode_error, decode_messages
from qfilter.netlink.nfnetlink import (
    CONFIG,
    COPY_LIMIT,
    PACKET,
    VERDICT,
    ConfigFlag,
    CopyMode,
    Family,
    Outcome,
    QueuedPacket,
    cut_packet_id,
    decode_packet,
    encode_config,
    encode_verdict,
)
from qfilter.netlink.queues import bound_queues, holder
from qfilter.queues.base import Judge, OwnVerdicts, QueueCounters
from qfilter.queues.verdicts import encode

_BATCH = 64
"""Packets a `receive` at most."""
_LARGEST_MESSAGE = COPY_LIMIT + 4_096
_SMALLEST_BUFFER, _LARGEST_BUFFER = 8 << 20, 32 << 20
_VERSIONS = {0x0800: 4, 0x86DD: 6}
_IDS = 1 << 32
_OUTCOMES = {Kind.ACCEPT: Outcome.ACCEPT, Kind.DROP: Outcome.DROP}
# The kernel says more than the field table: an input packet whose receiver is known carries that socket's uid, and
# postrouting has an input interface since Linux 5.5.
_CARRIED = {hook: frozenset(name for name, row in FIELDS.items() if hook in row.hooks) for hook in Hook}


class NfQueue:
    """One NFQUEUE. It is in force, and packets in it wait for their verdict, from `open` to `close`."""

    family = None

    def __init__(
        self,
        number: int,
        package: netfilterqueue.NetfilterQueue,
        channel: Channel,
        links: Links,
        mark_mask: int,
        failure: Mapping[Reason, Kind],
    ) -> None:
        self.number = number
        self.counters = QueueCounters()
        self.warnings: tuple[str, ...] = ()
        """What the operator should know about this queue: settings that the kernel did not take as wanted."""
        self._package = package
        self._channel = channel
        self._links = links
        self._mark_mask = mark_mask
        self.own = OwnVerdicts(self.counters, failure)
        self._waiting: deque[tuple[bytes, QueuedPacket]] = deque()
        self._current: QueuedPacket | None = None
        self._judge: Judge | None = None
        self._conntrack = False
        self._last_id = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        number: int,
        *,
        length: int = 1024,
        copy_range: int = COPY_LIMIT,
        socket_buffer: int | None = None,
        fail_open: bool = False,
        conntrack: bool = False,
        mark_mask: int = 0xF000_0000,
        failure: Mapping[Reason, Kind],
    ) -> Self:
        """Binds a queue of the thread's network namespace.

        `length` is the most packets that wait in it, `copy_range` the bytes of each that are copied (at most 65,531),
        `socket_buffer` the receive buffer in bytes (None: enough for `length` copies, 8 to 32 MiB), `conntrack` asks
        for what connection tracking knows, `mark_mask` are the bits that hand rejects back (0: a reject is an error),
        `failure` the outcome for each cause, drop where it has none. Raises PrivilegeError, UnsupportedError,
        QueueTakenError, and QueueError for what else the kernel refuses.
        """
        if mark_mask:
            demand_hand_back(mark_mask)
        flags = _flags(fail_open, conntrack)
        package = netfilterqueue.NetfilterQueue()
        # Held by a child process, the socket would keep the queue bound after our death.
        os.set_inheritable(package.get_fd(), False)
        channel = Channel(socket.socket(fileno=os.dup(package.get_fd())), largest=_LARGEST_MESSAGE)
        try:
            queue = cls(number, package, channel, Links.open(), mark_mask, failure)
        except BaseException:
            channel.close()
            raise
        try:
            queue._conntrack = conntrack
            queue._bind()
            queue._configure(copy_range, length, *flags, socket_buffer)
        except BaseException:
            queue.close()
            raise
        return queue

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return self._channel.fileno()

    def receive(self, judge: Judge) -> int:
        """Judges at most 64 waiting packets, see PacketQueue."""
        before = self.counters.received
        self._read()
        if self._waiting:
            # After the packets: every interface that one of them came by is known, under its present name.
            self._links.refresh()
        self._judge = judge
        self._package.run_socket(self)  # type: ignore[arg-type]  # it calls `recv` and nothing else
        return self.counters.received - before

    def configure(
        self, *, copy_range: int, length: int, fail_open: bool, conntrack: bool, socket_buffer: int | None
    ) -> None:
        """Asks for other settings, see PacketQueue."""
        self.warnings = ()
        # Once asked for it is asked for until the end: the policy before judges packets until the new one is in force.
        self._conntrack = self._conntrack or conntrack
        try:
            self._configure(copy_range, length, *_flags(fail_open, self._conntrack), socket_buffer)
        except OSError as error:
            raise QueueError(f"configure queue {self.number}", error.strerror or str(error), error.errno or 0) from None

    def answer_by(self, *, mark_mask: int, failure: Mapping[Reason, Kind]) -> None:
        """Answers by other bits and outcomes, see PacketQueue."""
        if mark_mask:
            demand_hand_back(mark_mask)
        self._mark_mask, self.own.outcomes = mark_mask, failure

    def close(self) -> None:
        """Unbinds; the kernel drops what is still waiting in the queue."""
        if self._closed:
            return
        self._closed = True
        # The package waits for the kernel's answer for ever, and a full socket has no room for it: first nothing new
        # comes, then what came is thrown away.
        self._channel.send(CONFIG, encode_config(self.number, copy=(CopyMode.NONE, 0)))
        self._discard()
        self._package.unbind()
        self._links.close()
        self._channel.close()

    def recv(self, _size: int) -> bytes:
        """For the package's `run_socket` alone: the next message; EAGAIN ends the run."""
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        message, self._current = self._waiting.popleft()
        return message

    def _bind(self) -> None:
        try:
            # Without a copy mode the kernel drops: no packet comes before the queue has all its settings. The package
            # asks for the buffer that the socket has, so that it has nothing to warn about.
            present = self._channel.buffer
            self._package.bind(self.number, self._decide, 1, netfilterqueue.COPY_NONE, 0, present)
        except OSError:
            held = bound_queues().get(self.number)
            if held is not None:
                raise QueueTakenError(self.number, held.port_id, holder(held.port_id)) from None
            raise QueueError(f"bind queue {self.number}", "the kernel refused it") from None

    def _configure(
        self, copy_range: int, length: int, flags: ConfigFlag, lacking: ConfigFlag, socket_buffer: int | None
    ) -> None:
        fitting = min(max(length * copy_range, _SMALLEST_BUFFER), _LARGEST_BUFFER)
        wanted = fitting if socket_buffer is None else socket_buffer
        got = self._channel.resize(wanted)
        if got < wanted:
            self.warnings += (f"queue {self.number}: socket buffer of {got} bytes: {wanted} were asked for",)
        for flag in lacking:
            self.warnings += (f"queue {self.number}: this kernel does not support {flag.name}",)
        self._channel.never_refuse()
        config = encode_config(self.number, copy=(CopyMode.PACKET, copy_range), length=length, flags=flags)
        earlier: list[Datagram] = []
        try:
            answer, _ = self._channel.ask(CONFIG, config, earlier)
        finally:
            # The kernel answers behind what it queued before: all that has the old settings is here now.
            for datagram in earlier:
                self._take(datagram)
        if answer:
            raise QueueError(f"configure queue {self.number}", os.strerror(answer), answer)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                datagram = self._channel.receive()
            except OSError as error:
                number = error.errno or 0
                if number != errno.ENOBUFS:
                    raise QueueError(f"read queue {self.number}", os.strerror(number), number) from None
                self.counters.errors[number] += 1
                continue
            if datagram is None:
                return
            self._take(datagram)

    def _take(self, datagram: Datagram) -> None:
        if datagram.cut:
            self.counters.truncated += 1
            self._give_up(datagram.data, f"message longer than {len(datagram.data)} bytes")
            return
        try:
            for message in decode_messages(datagram.data):
                if message.type == PACKET:
                    packet = decode_packet(message)
                    self._note_losses(packet.id)
                    self._waiting.append((datagram.data, packet))
                elif message.type == ERROR and (number := decode_error(message)):
                    self.counters.errors[number] += 1
        except ValueError as wrong:
            self.counters.errors[errno.EBADMSG] += 1
            self._give_up(datagram.data, str(wrong))

    def _note_losses(self, packet_id: int) -> None:
        # The kernel takes the next id right before it writes to the socket, so that each gap is a packet that the
        # socket had no room for. With FAIL_OPEN this is the only trace that those leave.
        self.counters.lost += (packet_id - self._last_id - 1) % _IDS
        self._last_id = packet_id

    def _give_up(self, message: bytes, words: str) -> None:
        """The outcome for a packet of which not more than the id is known."""
        packet_id = cut_packet_id(message)
        if packet_id is None:
            return
        self._note_losses(packet_id)
        self.counters.received += 1
        self._send_verdict(packet_id, _OUTCOMES[self.own.fail(Reason.TRUNCATED, words)], None)

    def _decide(self, handed: netfilterqueue.Packet) -> None:
        """The package's callback for the message that `recv` returned last."""
        self.counters.received += 1
        value, mark = int(Outcome.DROP), None
        try:
            value, mark = self._judged()
        finally:
            # Also while a KeyboardInterrupt passes: without a verdict the packet would keep its place in the queue.
            self._answer(handed, value, mark)

    def _judged(self) -> tuple[int, int | None]:
        queued, judge = self._current, self._judge
        assert queued is not None
        assert judge is not None
        packet = self.own.attempt(lambda: self._packet(queued))
        if isinstance(packet, Kind):
            return _OUTCOMES[packet], None
        if queued.mark & self._mark_mask:
            # Rejected already, and no REJECT rule took it: judged again it would come back for ever.
            words = f"mark {queued.mark:#x}: bits of {self._mark_mask:#x} were set on arrival"
            return _OUTCOMES[self.own.drop(words, packet)], None
        if not _is_ip(queued):
            words = f"ethertype {queued.ethertype:#06x}: expected an IP packet"
            return _OUTCOMES[self.own.fail(Reason.MALFORMED, words, packet)], None
        verdict = self.own.attempt(lambda: judge(packet), packet)
        if isinstance(verdict, Kind):
            return _OUTCOMES[verdict], None
        try:
            answer = encode(verdict, queued.mark, self._mark_mask, self.number)
        except ValueError as error:
            return _OUTCOMES[self.own.drop(str(error), packet)], None
        self.counters.count(verdict.decision.kind)
        return answer

    def _answer(self, handed: netfilterqueue.Packet, value: int, mark: int | None) -> None:
        if mark is not None:
            handed.set_mark(mark)
        match value:
            case Outcome.ACCEPT:
                handed.accept()
            case Outcome.DROP:
                handed.drop()
            case Outcome.REPEAT:
                handed.repeat()
            case _:
                self._send_verdict(handed.id, value, mark)

    def _send_verdict(self, packet_id: int, value: int, mark: int | None) -> None:
        try:
            self._channel.send(VERDICT, encode_verdict(self.number, packet_id, value, mark))
        except OSError as error:
            self.counters.errors[error.errno or 0] += 1

    def _discard(self) -> None:
        while True:
            try:
                if self._channel.receive() is None:
                    return
            except OSError as error:
                self.counters.errors[error.errno or 0] += 1

    def _packet(self, queued: QueuedPacket) -> Packet:
        hook = Hook.from_number(queued.hook)
        carried = _CARRIED[hook]
        return Packet(
            data=queued.payload,
            hook=hook,
            wire_length=queued.wire_length,
            iifname=self._name(queued.indev) if "iifname" in carried else None,
            oifname=self._name(queued.outdev) if "oifname" in carried else None,
            physin=self._name(queued.physindev) if "physin" in carried else None,
            physout=self._name(queued.physoutdev) if "physout" in carried else None,
            mark=queued.mark,
            uid=queued.uid if "uid" in carried else None,
            gid=queued.gid if "gid" in carried else None,
            ct_state=queued.ct_state,
            ct_mark=None if queued.conntrack is None else queued.conntrack.mark,
            hwaddr=queued.hwaddr if "hwaddr" in carried else None,
            timestamp=queued.timestamp,
            checksum_ready=queued.checksum_ready,
        )

    def _name(self, index: int) -> str | None:
        return self._links.name(index) if index else None


def _flags(fail_open: bool, conntrack: bool) -> tuple[ConfigFlag, ConfigFlag]:
    """The wanted flags that this kernel takes, and the others."""
    wanted = ConfigFlag.UID_GID | ConfigFlag.GSO
    for flag, asked in ((ConfigFlag.FAIL_OPEN, fail_open), (ConfigFlag.CONNTRACK, conntrack)):
        wanted |= flag if asked else ConfigFlag(0)
    taken = queue_flags(wanted)
    if fail_open and ConfigFlag.FAIL_OPEN not in taken:
        raise UnsupportedError("on_failure.queue_full: accept: this kernel cannot let packets past a full queue")
    return taken, wanted & ~taken


def _is_ip(queued: QueuedPacket) -> bool:
    """Whether the payload may be read as IP. A bridge queues frames of any type, which can be made to look like it."""
    if queued.family == Family.BRIDGE:
        return bool(queued.payload) and _VERSIONS.get(queued.ethertype) == queued.payload[0] >> 4
    return queued.family in (Family.IPV4, Family.IPV6)

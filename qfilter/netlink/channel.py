"""A netlink socket that never blocks: the kernel answers inside the system call that asks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from qfilter.netlink.message import ACK, ERROR, REQUEST, Message, decode_error, decode_messages, encode_message

_KERNEL = 0
_SOL_NETLINK = 270
_NETLINK_NO_ENOBUFS = 5
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True, slots=True)
class Datagram:
    """What one receive gave."""

    data: bytes
    cut: bool
    """True when the message was longer than the buffer."""


class Channel:
    """Messages to and from the kernel, over a socket that it owns from now on."""

    def __init__(self, kernel: socket.socket, *, largest: int = 1 << 16) -> None:
        self._socket = kernel
        self._buffer = bytearray(largest)
        self._view = memoryview(self._buffer)
        self._sequence = 0

    @classmethod
    def open(cls, protocol: int, *, groups: int = 0) -> Self:
        """A new socket of a NETLINK_* protocol in the thread's network namespace, member of the multicast `groups`.

        Raises OSError; EPROTONOSUPPORT means that the kernel lacks the protocol.
        """
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        try:
            kernel.bind((0, groups))
        except BaseException:
            kernel.close()
            raise
        return cls(kernel)

    @property
    def port_id(self) -> int:
        """The socket's address: the kernel shows it in its tables."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """A second call does nothing."""
        self._socket.close()

    def send(self, kind: int, body: bytes, flags: int = 0) -> int:
        """Sends one request and returns its sequence number. Raises OSError."""
        self._sequence += 1
        self._socket.send(encode_message(Message(type=kind, flags=REQUEST | flags, sequence=self._sequence, body=body)))
        return self._sequence

    def send_together(self, messages: Iterable[Message]) -> None:
        """Sends messages in one piece, as they are. Raises OSError."""
        self._socket.send(b"".join(map(encode_message, messages)))

    def receive(self) -> Datagram | None:
        """The next datagram from the kernel, or None when nothing waits. Raises OSError: ENOBUFS is a loss."""
        while True:
            try:
                size, _, flags, sender = self._socket.recvmsg_into([self._buffer], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            # Whoever has CAP_NET_ADMIN can send to any port id; only the kernel's own words count.
            if sender[0] == _KERNEL:
                return Datagram(bytes(self._view[:size]), bool(flags & socket.MSG_TRUNC))

    def ask(self, kind: int, body: bytes, earlier: list[Datagram] | None = None) -> tuple[int, list[Datagram]]:
        """The kernel's errno for a request, 0 for success, and what else arrived before the answer.

        Raises OSError, with ENOBUFS when the answer itself was lost; `earlier` then has what arrived.
        """
        earlier = [] if earlier is None else earlier
        sequence = self.send(kind, body, ACK)
        while (datagram := self.receive()) is not None:
            answer = next(decode_messages(datagram.data)) if not datagram.cut else None
            if answer is not None and answer.type == ERROR and answer.sequence == sequence:
                return decode_error(answer), earlier
            earlier.append(datagram)
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    def never_refuse(self) -> None:
        """After an overrun the socket goes on delivering what it still holds, instead of failing with ENOBUFS."""
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)

    @property
    def buffer(self) -> int:
        """Bytes of the receive buffer."""
        # The kernel doubles what it is asked for, for its own bookkeeping, and says the doubled number.
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def resize(self, wanted: int) -> int:
        """Asks for a receive buffer of that many bytes, above net.core.rmem_max where allowed; returns what it got."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        return self.buffer

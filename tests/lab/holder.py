"""A socket that binds a queue and decides only what a test tells it to: packets reach the queue, and wait."""

from __future__ import annotations

import os
import socket
import struct
from types import TracebackType
from typing import Self

from tests.lab.namespace import Namespace, force_receive_buffer

CONNTRACK = 0x2
"""NFQA_CFG_F_CONNTRACK."""

_NETLINK_NETFILTER = 12
_PACKET, _VERDICT, _CONFIG = 3 << 8, 3 << 8 | 1, 3 << 8 | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_*
_PACKET_HEADER, _VERDICT_HEADER = 1, 2
_REQUEST = 0x1
_REQUEST_ACK = 0x1 | 0x4
_ERROR = 2
_MESSAGE = struct.Struct("=IHHII")
_COMMAND, _PARAMS, _MASK, _FLAGS = 1, 2, 4, 5
_BIND = struct.pack("!BxH", 1, 0)
_RECEIVE_BUFFER = 8 << 20
_COPY_META = struct.pack("!IB", 0, 1)


class QueueHolder:
    """Holds a queue of a namespace from the start to the end of a `with`; packets in it wait, and are dropped then.

    OSError with the kernel's errno when the kernel refuses: EPERM for a queue that is taken.
    """

    def __init__(self, namespace: Namespace, number: int, flags: int = 0) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        # Python knows netlink addresses but not this protocol's messages: they are packed here.
        self.refused = 0
        """Verdicts that the kernel did not take, as far as `take` has read of them."""
        self._header = struct.pack("!BBH", socket.AF_UNSPEC, 0, number)
        body = self._header + _attribute(_COMMAND, _BIND)
        body += _attribute(_PARAMS, _COPY_META)
        if flags:
            body += _attribute(_MASK, struct.pack("!I", flags)) + _attribute(_FLAGS, struct.pack("!I", flags))
        try:
            self._socket.settimeout(5.0)
            force_receive_buffer(self._socket, _RECEIVE_BUFFER)
            self._socket.bind((0, 0))
            self._socket.send(_MESSAGE.pack(_MESSAGE.size + len(body), _CONFIG, _REQUEST_ACK, 1, 0) + body)
            _check(self._socket.recv(65_535))
        except BaseException:
            self._socket.close()
            raise

    @property
    def port_id(self) -> int:
        """The netlink port that /proc/net/netfilter/nfnetlink_queue names as the holder."""
        address: tuple[int, int] = self._socket.getsockname()
        return address[0]

    def take(self) -> int:
        """The id of the next packet; waits for it, and counts the refusals that come before it."""
        while (kind := _MESSAGE.unpack_from(message := self._socket.recv(65_535))[1]) == _ERROR:
            self.refused += 1
        assert (kind, *struct.unpack_from("=H", message, _MESSAGE.size + 6)) == (_PACKET, _PACKET_HEADER)
        number: int = struct.unpack_from("!I", message, _MESSAGE.size + 8)[0]
        return number

    def decide(self, number: int, *, accept: bool) -> None:
        """Gives a verdict for an id, which the kernel refuses when no packet waits under it."""
        body = self._header + _attribute(_VERDICT_HEADER, struct.pack("!II", int(accept), number))
        self._socket.send(_MESSAGE.pack(_MESSAGE.size + len(body), _VERDICT, _REQUEST, 0, 0) + body)

    def close(self) -> None:
        """Lets the queue go; what waits is dropped. A second call does nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _attribute(kind: int, value: bytes) -> bytes:
    # The padding is not part of the length.
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _check(reply: bytes) -> None:
    kind = _MESSAGE.unpack_from(reply)[1]
    number = -struct.unpack_from("=i", reply, _MESSAGE.size)[0] if kind == _ERROR else 0
    if number:
        raise OSError(number, os.strerror(number))

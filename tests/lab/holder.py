"""A socket that binds a queue and answers nothing: enough to see that packets reach the queue, or to be in the way."""

from __future__ import annotations

import os
import socket
import struct
from types import TracebackType
from typing import Self

from tests.lab.namespace import Namespace

CONNTRACK = 0x2
"""NFQA_CFG_F_CONNTRACK."""

_NETLINK_NETFILTER = 12
_CONFIG = (3 << 8) | 2  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_REQUEST_ACK = 0x1 | 0x4
_ERROR = 2
_MESSAGE = struct.Struct("=IHHII")
_COMMAND, _PARAMS, _MASK, _FLAGS = 1, 2, 4, 5
_BIND = struct.pack("!BxH", 1, 0)
_COPY_META = struct.pack("!IB", 0, 1)


class QueueHolder:
    """Holds a queue of a namespace from the start to the end of a `with`; packets in it wait, and are dropped then.

    OSError with the kernel's errno when the kernel refuses: EPERM for a queue that is taken.
    """

    def __init__(self, namespace: Namespace, number: int, flags: int = 0) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        # Python knows netlink addresses but not this protocol's messages: they are packed here.
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, number) + _attribute(_COMMAND, _BIND)
        body += _attribute(_PARAMS, _COPY_META)
        if flags:
            body += _attribute(_MASK, struct.pack("!I", flags)) + _attribute(_FLAGS, struct.pack("!I", flags))
        try:
            self._socket.settimeout(5.0)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _attribute(kind: int, value: bytes) -> bytes:
    # The padding is not part of the length.
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _check(reply: bytes) -> None:
    kind = _MESSAGE.unpack_from(reply)[1]
    number = -struct.unpack_from("=i", reply, _MESSAGE.size)[0] if kind == _ERROR else 0
    if number:
        raise OSError(number, os.strerror(number))

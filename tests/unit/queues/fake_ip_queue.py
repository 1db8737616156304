"""The kernel's side of ip_queue, over NETLINK_USERSOCK: net/ipv4/netfilter/ip_queue.c of Linux 3.4, for a peer.

It writes and reads the structures through ctypes, apart from the codec that it tests.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from qfilter.queues.ip_queue import IpQueue

NETLINK_USERSOCK = 2
NF_DROP, NF_ACCEPT, NF_STOLEN, NF_MAX_VERDICT = 0, 1, 2, 5
HEADER = struct.Struct("=IHHII")
F_REQUEST, F_ACK = 1, 4
NLMSG_ERROR = 2
_ports = itertools.count(0x2000_0000)


class PacketMsg(ctypes.Structure):
    _fields_ = (
        ("packet_id", ctypes.c_ulong),
        ("mark", ctypes.c_ulong),
        ("timestamp_sec", ctypes.c_long),
        ("timestamp_usec", ctypes.c_long),
        ("hook", ctypes.c_uint),
        ("indev_name", ctypes.c_char * 16),
        ("outdev_name", ctypes.c_char * 16),
        ("hw_protocol", ctypes.c_ushort),
        ("hw_type", ctypes.c_ushort),
        ("hw_addrlen", ctypes.c_ubyte),
        ("hw_addr", ctypes.c_ubyte * 8),
        ("data_len", ctypes.c_size_t),
    )


class ModeMsg(ctypes.Structure):
    _fields_ = (("value", ctypes.c_ubyte), ("range", ctypes.c_size_t))


class VerdictMsg(ctypes.Structure):
    _fields_ = (("value", ctypes.c_uint), ("id", ctypes.c_ulong), ("data_len", ctypes.c_size_t))


class PeerMsg(ctypes.Union):
    _fields_ = (("verdict", VerdictMsg), ("mode", ModeMsg))


@dataclass
class FakeKernel:
    """One queue: `queue` a packet, let the queue's owner `receive`, `serve` what it sent, and look at `log`."""

    holder: int = 0
    """The port that holds the queue; the first to speak gets it."""
    refusal: int = 0
    """An errno that every request gets."""
    mode: int = 0
    copy_range: int = 0
    log: list[str] = field(default_factory=list)
    """What the owner asked, in words."""
    waiting: set[int] = field(default_factory=set)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(0x7FFF_0000, 8))

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
        self.port = next(_ports)
        self.socket.bind((self.port, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self, opening: Callable[[], IpQueue]) -> IpQueue:
        """What `opening` returns, while its request for a mode is served."""
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(opening)
            self._serve_one(0)
            return future.result()

    def queue(
        self,
        data: bytes,
        *,
        hook: int = 1,
        indev: bytes = b"eth0",
        outdev: bytes = b"",
        mark: int = 0,
        hwaddr: bytes = b"",
        time: tuple[int, int] = (0, 0),
    ) -> int | None:
        """Send a packet as the mode says and return its id; None where the kernel drops it at once."""
        if self.mode == 0 or not self.holder:
            return None
        copied = data[: self.copy_range or None] if self.mode == 2 else b""
        packet = PacketMsg(next(self._ids), mark, *time, hook, indev, outdev, 8, 1, len(hwaddr))
        packet.hw_addr[: len(hwaddr)] = list(hwaddr)
        packet.data_len = len(copied)
        self.waiting.add(packet.packet_id)
        self.send(19, bytes(packet) + copied)
        return int(packet.packet_id)

    def send(self, kind: int, body: bytes) -> None:
        self.socket.sendto(HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body, (self.holder, 0))

    def serve(self) -> list[str]:
        """Do what the owner has sent since the last time; the words for it."""
        begin = len(self.log)
        while self._serve_one(socket.MSG_DONTWAIT):
            pass
        return self.log[begin:]

    def _serve_one(self, flags: int) -> bool:
        try:
            datagram, (sender, _) = self.socket.recvfrom(1 << 17, flags)
        except BlockingIOError:
            return False
        length, kind, header_flags, sequence, port = HEADER.unpack_from(datagram)
        assert length == len(datagram)
        assert port == sender, "ip_queue believes the header"
        assert header_flags & F_REQUEST
        status = self._request(kind, sender, datagram[HEADER.size :])
        if status or header_flags & F_ACK:
            body = struct.pack("=i", -status) + (datagram if status else datagram[: HEADER.size])
            message = HEADER.pack(HEADER.size + len(body), NLMSG_ERROR, 0, sequence, port) + body
            self.socket.sendto(message, (sender, 0))
        return True

    def _request(self, kind: int, sender: int, body: bytes) -> int:
        if self.refusal:
            return self.refusal
        if self.holder not in (0, sender):
            return errno.EBUSY
        self.holder = sender
        if len(body) < ctypes.sizeof(PeerMsg):
            return errno.EINVAL
        message = PeerMsg.from_buffer_copy(body)
        if kind == 17:
            return self._set_mode(message.mode.value, message.mode.range)
        if kind == 18:
            return self._set_verdict(message.verdict, body[ctypes.sizeof(PeerMsg) :])
        return errno.EINVAL

    def _set_mode(self, mode: int, copy_range: int) -> int:
        if mode > 2:
            return errno.EINVAL
        self.mode, self.copy_range = mode, min(copy_range, 0xFFFF) if mode == 2 else 0
        self.log.append(f"mode {mode} range {self.copy_range}")
        return 0

    def _set_verdict(self, verdict: VerdictMsg, payload: bytes) -> int:
        if verdict.value > NF_MAX_VERDICT or verdict.value == NF_STOLEN:
            return errno.EINVAL
        if verdict.id not in self.waiting:
            return errno.ENOENT
        self.waiting.remove(verdict.id)
        replaced = f" payload {payload.hex()}" if verdict.data_len and verdict.data_len == len(payload) else ""
        self.log.append(f"{verdict.id:#x} {verdict.value}{replaced}")
        return 0

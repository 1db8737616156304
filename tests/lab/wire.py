"""Packets as bytes: any bytes sent towards the gateway, and what arrives on an interface."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tests.lab.namespace import Host, force_receive_buffer
from tests.lab.process import patient

_ETHER_ALL = 0x0003
_ETHER_TYPES = {4: 0x0800, 6: 0x86DD}
_OUTGOING = 4
_QUIET = patient(0.05)


def inject(source: Host, packets: Iterable[bytes]) -> int:
    """Sends packets that begin with an IP header to the host's router as they are; returns how many.

    The first byte's upper half decides between IPv4 and IPv6 on the wire; anything but 6 goes out as IPv4.
    """
    count = 0
    mac = bytes.fromhex(source.router_mac.replace(":", ""))
    with source.new_socket(socket.AF_PACKET, socket.SOCK_DGRAM) as wire:
        for packet in packets:
            version = packet[0] >> 4 if packet else 4
            wire.sendto(packet, (source.interface, _ETHER_TYPES.get(version, _ETHER_TYPES[4]), 0, 0, mac))
            count += 1
    return count


class Tap:
    """What arrives at a host, from the IP header on, before the host's own firewall; for use in a `with`."""

    def __init__(self, host: Host) -> None:
        self._wire = host.new_socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        force_receive_buffer(self._wire, 32 << 20)
        self._wire.bind((host.interface, _ETHER_ALL))

    def collect(
        self, expected: int, where: Callable[[bytes], bool] = lambda _: True, timeout: float = 5.0
    ) -> list[bytes]:
        """The packets for which `where` holds: waits for `expected`, then for surplus until none came for 50 ms.

        Without `where` neighbour discovery is among them.
        """
        found: list[bytes] = []
        deadline = time.monotonic() + patient(timeout)
        while (left := deadline - time.monotonic()) > 0:
            self._wire.settimeout(left if len(found) < expected else min(left, _QUIET))
            try:
                packet, (_, kind, direction, *_) = self._wire.recvfrom(65_535)
            except TimeoutError:
                break
            if direction != _OUTGOING and kind in _ETHER_TYPES.values() and where(packet):
                found.append(packet)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()

"""What may be judged as an IP packet, and what a packet of the queue is to an engine."""

from __future__ import annotations

from typing import Any

import pytest

from qfilter.errors import UnsupportedError
from qfilter.netlink.nfnetlink import ConfigFlag, Conntrack, Family, QueuedPacket
from qfilter.queues import nfqueue
from qfilter.queues.nfqueue import NfQueue, _flags, _is_ip

ETH_IP, ETH_IPV6, ETH_ARP, ETH_VLAN = 0x0800, 0x86DD, 0x0806, 0x8100
INET, NETDEV = 1, 5


@pytest.mark.parametrize(
    ("family", "ethertype", "payload", "judged"),
    [
        # What an IP hook queues is for the engine, malformed or not.
        (Family.IPV4, ETH_IP, b"\x45", True),
        (Family.IPV6, ETH_IPV6, b"\x60", True),
        (Family.IPV4, 0, b"\x45", True),
        (Family.IPV4, ETH_IP, b"", True),
        # A bridge's frame is IP when its type and its first bits agree, and never because it looks like it.
        (Family.BRIDGE, ETH_IP, b"\x45", True),
        (Family.BRIDGE, ETH_IPV6, b"\x60", True),
        (Family.BRIDGE, ETH_ARP, b"\x45", False),
        (Family.BRIDGE, ETH_VLAN, b"\x45", False),
        (Family.BRIDGE, ETH_IP, b"\x60", False),
        (Family.BRIDGE, ETH_IPV6, b"\x45", False),
        (Family.BRIDGE, ETH_IP, b"", False),
        (Family.ARP, ETH_ARP, b"\x45", False),
        (INET, ETH_IP, b"\x45", False),
        (NETDEV, ETH_IP, b"\x45", False),
        (Family.UNSPEC, ETH_IP, b"\x45", False),
    ],
)
def test_what_is_an_ip_packet(family: int, ethertype: int, payload: bytes, judged: bool) -> None:
    packet = QueuedPacket(id=1, family=family, ethertype=ethertype, hook=2, wire_length=len(payload), payload=payload)
    assert _is_ip(packet) is judged


class _NoLinks:
    def name(self, _: int) -> str | None:
        return None


@pytest.mark.parametrize("hook", range(5))
@pytest.mark.parametrize(
    ("connection", "state", "mark"),
    [(Conntrack(info=3, mark=9), 2, 9), (Conntrack(info=1, mark=0), 4, 0), (None, 1, None)],
)
def test_what_connection_tracking_knows(hook: int, connection: Conntrack | None, state: int, mark: int | None) -> None:
    nobody: Any = None
    links: Any = _NoLinks()
    queue = NfQueue(0, nobody, nobody, links, 0, {})
    found = QueuedPacket(id=1, family=2, ethertype=ETH_IP, hook=hook, conntrack=connection, wire_length=0)
    packet = queue._packet(found)
    assert (packet.ct_state, packet.ct_mark) == (state, mark)


GSO, UID_GID, FAIL_OPEN, CONNTRACK = ConfigFlag.GSO, ConfigFlag.UID_GID, ConfigFlag.FAIL_OPEN, ConfigFlag.CONNTRACK
NONE = ConfigFlag(0)


@pytest.mark.parametrize(
    ("fail_open", "conntrack", "kernel", "expected"),
    [
        (False, False, GSO | UID_GID | FAIL_OPEN | CONNTRACK, (GSO | UID_GID, NONE)),
        (False, True, GSO | UID_GID | FAIL_OPEN | CONNTRACK, (GSO | UID_GID | CONNTRACK, NONE)),
        (True, True, GSO | FAIL_OPEN, (GSO | FAIL_OPEN, UID_GID | CONNTRACK)),
    ],
)
def test_flags(
    monkeypatch: pytest.MonkeyPatch,
    fail_open: bool,
    conntrack: bool,
    kernel: ConfigFlag,
    expected: tuple[ConfigFlag, ConfigFlag],
) -> None:
    monkeypatch.setattr(nfqueue, "queue_flags", lambda asked: asked & kernel)
    assert _flags(fail_open, conntrack) == expected


def test_a_kernel_that_cannot_let_packets_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nfqueue, "queue_flags", lambda asked: asked & GSO)
    with pytest.raises(UnsupportedError, match="cannot let packets past a full queue"):
        _flags(True, False)

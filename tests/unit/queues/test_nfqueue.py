"""What may be judged as an IP packet."""

from __future__ import annotations

import pytest

from qfilter.netlink.nfnetlink import Family, QueuedPacket
from qfilter.queues.nfqueue import _is_ip

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

"""Where IP begins behind each link header, and where it ends before the link's padding."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.queues.captures import CapturedPacket, read_capture
from tests.unit.queues.capture_files import ARP, ECHO6, ETHERNET, SYN, pcap_header, pcap_record

IPV4, IPV6, ARP_TYPE = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
VLAN, QINQ = b"\x81\x00\x00\x05", b"\x88\xa8\x00\x07"


def sll(packet_type: int, protocol: bytes) -> bytes:
    return packet_type.to_bytes(2) + bytes.fromhex("0001000602005e0053010000") + protocol


def sll2(packet_type: int, protocol: bytes) -> bytes:
    return protocol + bytes.fromhex("0000000000020001") + bytes([packet_type, 6]) + bytes.fromhex("02005e0053010000")


def captured(folder: Path, link_type: int, frame: bytes, original: int | None = None) -> CapturedPacket:
    path = folder / "a.pcap"
    path.write_bytes(pcap_header(link_type) + pcap_record(frame, original=original))
    (packet,) = read_capture(path)
    return packet


@pytest.mark.parametrize(
    ("link_type", "header", "data", "outbound"),
    [
        # raw IP, by its four numbers
        (101, b"", SYN, None),
        (12, b"", ECHO6, None),
        (228, b"", SYN, None),
        (229, b"", ECHO6, None),
        # Ethernet: plain, one tag, two tags
        (1, ETHERNET + IPV4, SYN, None),
        (1, ETHERNET + IPV6, ECHO6, None),
        (1, ETHERNET + VLAN + IPV4, SYN, None),
        (1, ETHERNET + QINQ + VLAN + IPV6, ECHO6, None),
        # Linux cooked: to us, and outgoing
        (113, sll(0, IPV4), SYN, False),
        (113, sll(4, IPV6), ECHO6, True),
        (113, sll(4, VLAN[:2]) + VLAN[2:] + IPV4, SYN, True),
        (276, sll2(0, IPV4), SYN, False),
        (276, sll2(4, IPV6), ECHO6, True),
        (276, sll2(4, VLAN[:2]) + VLAN[2:] + IPV4, SYN, True),
        # BSD loopback: the family in either order
        (0, b"\x02\0\0\0", SYN, None),
        (0, b"\0\0\0\x02", SYN, None),
        (0, b"\x1e\0\0\0", ECHO6, None),
        (0, b"\x0a\0\0\0", ECHO6, None),
        (108, b"\0\0\0\x18", ECHO6, None),
    ],
)
def test_ip_behind_a_link_header(
    tmp_path: Path, link_type: int, header: bytes, data: bytes, outbound: bool | None
) -> None:
    packet = captured(tmp_path, link_type, header + data)
    assert (packet.data, packet.wire_length, packet.outbound) == (data, len(data), outbound)
    cut = captured(tmp_path, link_type, header + data[:22], original=len(header + data))
    assert (cut.data, cut.wire_length, cut.outbound) == (data[:22], len(data), outbound)
    only_the_header = captured(tmp_path, link_type, header, original=len(header + data))
    assert (only_the_header.data, only_the_header.wire_length) == (b"", len(data))


@pytest.mark.parametrize(
    ("link_type", "frame"),
    [
        (1, ETHERNET + ARP_TYPE + ARP),
        (1, ETHERNET + VLAN + ARP_TYPE + ARP),
        (1, ETHERNET + b"\x00\x26" + bytes(38)),  # IEEE 802.3: a length, no type
        (1, ETHERNET + b"\x08"),
        (1, ETHERNET + VLAN),
        (1, b""),
        (113, sll(0, ARP_TYPE) + ARP),
        (113, b"\0"),
        (276, sll2(0, ARP_TYPE) + ARP),
        (276, IPV4 + bytes(9)),
        (0, b"\x07\0\0\0" + SYN),
        (0, b"\x02\0\0"),
    ],
)
def test_no_ip(tmp_path: Path, link_type: int, frame: bytes) -> None:
    packet = captured(tmp_path, link_type, frame)
    assert (packet.data, packet.wire_length) == (None, len(frame))


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (SYN + bytes(6), 40),
        (ECHO6 + bytes(2), 48),
        # what lies about its length is left whole for the engine to judge
        (b"\x45\0\0\x13" + SYN[4:] + bytes(6), 46),
        (b"\x45\0\0\xff" + SYN[4:] + bytes(6), 46),
        (ECHO6[:4] + b"\0\0" + ECHO6[6:] + bytes(2), 50),
        (b"\x55" + SYN[1:] + bytes(6), 46),
    ],
)
def test_padding_of_short_ethernet_frames_is_not_the_packet(tmp_path: Path, data: bytes, length: int) -> None:
    packet = captured(tmp_path, 1, ETHERNET + IPV4 + data)
    assert (packet.data, packet.wire_length) == (data[:length], length)


def test_raw_packets_are_left_as_they_are(tmp_path: Path) -> None:
    packet = captured(tmp_path, 101, SYN + bytes(6))
    assert (packet.data, packet.wire_length) == (SYN + bytes(6), 46)

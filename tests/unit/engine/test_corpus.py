"""Half-broken packets of the tcpdump project, and libpcap as an independent opinion about them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from qfilter.engine.decode import Decoded, decode
from qfilter.engine.readers import read
from qfilter.fields import FIELDS, MAX_DEPTH
from qfilter.model.packet import Packet

CORPUS = Path(__file__).parents[4] / "shared/corpus/tcpdump-raw.pcap"
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not here")
TCP, UDP = 6, 17


def packets() -> Iterator[Packet]:
    data = CORPUS.read_bytes()
    at = 24
    while at < len(data):
        copied, wire = struct.unpack_from("<8xII", data, at)
        yield Packet.from_bytes(data[at + 16 : at + 16 + copied], hook="input", wire_length=wire)
        at += 16 + copied


@pytest.fixture(scope="module")
def corpus() -> list[Decoded]:
    return [decode(packet) for packet in packets()]


def test_every_field_of_every_packet_can_be_read(corpus: list[Decoded]) -> None:
    for found in corpus:
        for field in FIELDS:
            for depth in range(MAX_DEPTH + 1):
                read(found, field, depth)


def test_codes(corpus: list[Decoded]) -> None:
    assert Counter(found.malformed and found.malformed.value for found in corpus) == {
        None: 5316,
        "udp-length": 38,
        "ipv4-fragment": 30,
        "ipv4-total-length": 27,
        "ipv6-jumbogram": 12,
        "ipv4-option": 9,
        "ipv6-routing-type-0": 4,
        "ipv6-extension-option": 3,
        "ipv6-payload-length": 3,
        "port-zero": 3,
        "tcp-flags": 2,
        "ipv4-source-route": 1,
        "ipv4-header-length": 1,
        "ipv4-header-short": 1,
        "ipv6-header-short": 1,
        "transport-short": 1,
    }


def count(corpus: list[Decoded], **wanted: object) -> int:
    return sum(all(read(found, field) == value for field, value in wanted.items()) for found in corpus)


def test_the_fields_that_libpcap_reads_too(corpus: list[Decoded]) -> None:
    assert count(corpus, protocol=TCP, dport=80) == 16
    assert count(corpus, family=FIELDS["family"].names["ipv6"]) == 832
    assert count(corpus, fragment=FIELDS["fragment"].names["later"], family=FIELDS["family"].names["ipv4"]) == 154
    assert count(corpus, family=FIELDS["family"].names["ipv6"], protocol=TCP) == 8
    assert count(corpus, protocol=UDP, sport=53) == 34
    ten = ip_network("10.0.0.0/8")
    addresses = [read(found, "daddr") for found in corpus]
    assert sum(isinstance(address, IPv4Address) and address in ten for address in addresses) == 782


def test_dns_that_contradicts_itself(corpus: list[Decoded]) -> None:
    """libpcap says 55, nftables 52: three claim more bytes than there are in IP, a fourth in UDP."""
    assert count(corpus, protocol=UDP, dport=53) == 52
    sound = [found for found in corpus if found.malformed is None]
    assert count(sound, protocol=UDP, dport=53) == 51
    port_53 = [found for found in corpus if found.malformed and libpcap_says_port_53(found.packet.data)]
    assert Counter(found.malformed.value for found in port_53 if found.malformed) == {
        "ipv4-total-length": 2,
        "ipv6-payload-length": 1,
        "udp-length": 1,
    }


def libpcap_says_port_53(data: bytes) -> bool:
    """Of `udp dst port 53`: no length is looked at but the IPv4 header's, and only first fragments are."""
    if data[0] >> 4 == 6:
        return data[6] == UDP and data[42:44] == b"\0\x35"
    at = (data[0] & 0xF) * 4 + 2
    return data[9:10] == bytes([UDP]) and data[6] & 0x1F == data[7] == 0 and data[at : at + 2] == b"\0\x35"

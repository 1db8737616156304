"""NFQUEUE's messages against linux/netfilter/nfnetlink_queue.h, byte for byte and there and back."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.fields import FIELDS
from qfilter.netlink.message import Message, decode_attributes, encode_attributes, encode_message
from qfilter.netlink.nfnetlink import (
    CONFIG,
    PACKET,
    VERDICT,
    ConfigFlag,
    Conntrack,
    CopyMode,
    Family,
    Outcome,
    QueuedPacket,
    cut_packet_id,
    decode_packet,
    encode_config,
    encode_greeting,
    encode_verdict,
)

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the rows are written for little-endian machines")

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)


_NESTED = 0x8000


def _connection(mark: int) -> bytes:
    """What ctnetlink_glue_build writes, among it CTA_STATUS, CTA_ID and CTA_MARK."""
    status, number = (3, struct.pack("!I", 0x18E)), (12, struct.pack("!I", 77))
    return encode_attributes([status, *([(8, struct.pack("!I", mark))] if mark else []), number])


def encode_packet(packet: QueuedPacket) -> bytes:
    """The body that the kernel writes (nfqnl_build_packet_message), in its order of attributes."""
    attributes = [(1, struct.pack("!IHB", packet.id, packet.ethertype, packet.hook))]
    numbers = [(5, packet.indev), (7, packet.physindev), (6, packet.outdev), (8, packet.physoutdev), (3, packet.mark)]
    attributes += [(kind, struct.pack("!I", value)) for kind, value in numbers if value]
    if packet.hwaddr is not None:
        attributes.append((9, struct.pack("!Hxx", len(packet.hwaddr)) + packet.hwaddr.ljust(8, b"\0")))
    if packet.timestamp is not None:
        attributes.append((4, struct.pack("!QQ", *divmod(round(packet.timestamp * 1_000_000), 1_000_000))))
    ids = [(16, packet.uid), (17, packet.gid)]
    attributes += [(kind, struct.pack("!I", value)) for kind, value in ids if value is not None]
    if packet.conntrack is not None:
        attributes.append((11 | _NESTED, _connection(packet.conntrack.mark)))
        attributes.append((12, struct.pack("!I", packet.conntrack.info)))
    if packet.wire_length > len(packet.payload):
        attributes.append((13, struct.pack("!I", packet.wire_length)))
    attributes.append((14, struct.pack("!I", 4 if packet.checksum_ready else 5)))
    if packet.payload:
        attributes.append((10, packet.payload))
    return struct.pack("!BBH", packet.family, 0, 0) + encode_attributes(attributes)


@st.composite
def packets(draw: st.DrawFn) -> QueuedPacket:
    payload = draw(st.binary(max_size=200))
    return QueuedPacket(
        id=draw(u32),
        family=draw(st.sampled_from(Family)),
        ethertype=draw(u16),
        hook=draw(st.integers(0, 5)),
        mark=draw(u32),
        indev=draw(u32),
        outdev=draw(u32),
        physindev=draw(u32),
        physoutdev=draw(u32),
        hwaddr=draw(st.none() | st.binary(max_size=8)),
        timestamp=draw(st.none() | st.integers(0, 2_000_000_000).map(float)),
        uid=draw(st.none() | u32),
        gid=draw(st.none() | u32),
        conntrack=draw(st.none() | st.builds(Conntrack, info=st.integers(0, 7), mark=u32)),
        checksum_ready=draw(st.booleans()),
        wire_length=len(payload) + draw(st.integers(0, 60_000)),
        payload=payload,
    )


def test_message_types_are_subsystem_and_kind() -> None:
    assert (PACKET, VERDICT, CONFIG) == (0x0300, 0x0301, 0x0302)


@given(packets())
def test_packets_come_back(packet: QueuedPacket) -> None:
    assert decode_packet(Message(type=PACKET, body=encode_packet(packet))) == packet


@little_endian
def test_a_packet_from_the_kernel() -> None:
    body = bytes.fromhex(
        "02 00 00 03"  # NFPROTO_IPV4, version 0, queue 3
        "0b 00 01 00  00 00 00 07  08 00 02 00"  # id 7, ETH_P_IP, forward
        "08 00 05 00  00 00 00 02"  # indev
        "08 00 06 00  00 00 00 03"  # outdev
        "08 00 03 00  00 00 00 2a"  # mark
        "10 00 09 00  00 06 00 00  02 00 00 00 01 02 00 00"  # hwaddr, 6 of its 8 bytes
        "14 00 04 00  00 00 00 00 65 53 f1 00  00 00 00 00 00 07 a1 20"  # 1700000000.5
        "08 00 10 00  00 00 03 e8"  # uid 1000
        "08 00 11 00  00 00 03 e9"  # gid 1001
        "14 00 0b 80  08 00 03 00 00 00 01 8e  08 00 08 00 00 00 00 07"  # CTA_STATUS, CTA_MARK
        "08 00 0c 00  00 00 00 03"  # IP_CT_ESTABLISHED_REPLY
        "08 00 0d 00  00 00 05 dc"  # 1500 bytes before the cut
        "08 00 0e 00  00 00 00 01"  # checksum not ready
        "07 00 0a 00  45 00 05"
    )
    assert decode_packet(Message(type=PACKET, body=body)) == QueuedPacket(
        id=7,
        family=Family.IPV4,
        ethertype=0x0800,
        hook=2,
        mark=42,
        indev=2,
        outdev=3,
        hwaddr=bytes.fromhex("020000000102"),
        timestamp=1_700_000_000.5,
        uid=1000,
        gid=1001,
        conntrack=Conntrack(info=3, mark=7),
        checksum_ready=False,
        wire_length=1500,
        payload=b"\x45\x00\x05",
    )


@pytest.mark.parametrize(
    ("info", "state"),
    [
        (0, "established"),
        (1, "related"),
        (2, "new"),
        (3, "established"),
        (4, "related"),
        (5, "new"),
        (6, "invalid"),
        (7, "invalid"),
        (None, "invalid"),
    ],
)
def test_states_of_connections(info: int | None, state: str) -> None:
    connection = None if info is None else Conntrack(info=info, mark=7)
    body = encode_packet(QueuedPacket(id=1, family=2, ethertype=0, hook=1, conntrack=connection, wire_length=0))
    decoded = decode_packet(Message(type=PACKET, body=body))
    assert (decoded.ct_state, decoded.conntrack) == (FIELDS["ct.state"].names[state], connection)


def test_a_connection_of_which_only_attributes_came_is_none() -> None:
    body = b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (11 | _NESTED, _connection(7))])
    assert decode_packet(Message(type=PACKET, body=body)).conntrack is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (VERDICT, bytes(4)),
        (PACKET, b"\2\0\0"),
        (PACKET, b"\2\0\0\0" + encode_attributes([(10, b"a payload and no header")])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, b"short")])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (3, b"odd")])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (9, b"x")])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (4, bytes(15))])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (12, b"odd")])),
        (PACKET, b"\2\0\0\0" + encode_attributes([(1, bytes(7)), (12, bytes(4)), (11, b"\x07\0\x08\0odd")])),
    ],
)
def test_what_is_no_packet_is_refused(kind: int, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(netlink message type|queued packet with attributes)"):
        decode_packet(Message(type=kind, body=body))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_refused(body: bytes) -> None:
    try:
        packet = decode_packet(Message(type=PACKET, body=body))
    except ValueError:
        return
    assert packet.wire_length >= 0


@given(packets(), st.integers(0, 300))
def test_the_id_of_a_cut_packet(packet: QueuedPacket, size: int) -> None:
    message = encode_message(Message(type=PACKET, body=encode_packet(packet)))
    header, nfgen, packet_header = 16, 4, 11
    readable = min(size, len(message)) >= header + nfgen + packet_header
    assert cut_packet_id(message[:size]) == (packet.id if readable else None)


def test_only_a_packet_has_an_id() -> None:
    assert (
        cut_packet_id(encode_message(Message(type=VERDICT, body=b"\2\0\0\0" + encode_attributes([(1, bytes(7))]))))
        is None
    )
    assert (
        cut_packet_id(encode_message(Message(type=PACKET, body=b"\2\0\0\0" + encode_attributes([(2, bytes(7))]))))
        is None
    )
    assert cut_packet_id(encode_message(Message(type=PACKET, body=b"\2\0\0\0"))) is None


@little_endian
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (encode_verdict(3, 7, Outcome.ACCEPT), "00000003 0c000200 00000001 00000007"),
        (encode_verdict(3, 7, Outcome.DROP), "00000003 0c000200 00000000 00000007"),
        (encode_verdict(0, 7, Outcome.REPEAT, 0x10000000), "00000000 0c000200 00000004 00000007 08000300 10000000"),
        (encode_verdict(0, 7, 5 << 16 | Outcome.QUEUE, 0), "00000000 0c000200 00050003 00000007 08000300 00000000"),
        (encode_config(9), "00000009"),
        (encode_config(9, copy=(CopyMode.PACKET, 65_531)), "00000009 09000200 0000fffb 02000000"),
        (encode_config(9, length=1024), "00000009 08000300 00000400"),
        (encode_config(9, flags=ConfigFlag.GSO | ConfigFlag.FAIL_OPEN), "00000009 08000500 00000005 08000400 0000000f"),
        (encode_config(9, flags=ConfigFlag.CONNTRACK), "00000009 08000500 00000002 08000400 0000000f"),
        (encode_config(9, flags=ConfigFlag(0)), "00000009 08000500 00000000 08000400 0000000f"),
        (encode_greeting(), "00000000 08000100 03000002"),
    ],
)
def test_requests(body: bytes, expected: str) -> None:
    assert body.hex(" ", 4) == expected


@given(queue=u16, packet_id=u32, value=u32, mark=st.none() | u32)
def test_verdicts_come_back(queue: int, packet_id: int, value: int, mark: int | None) -> None:
    body = encode_verdict(queue, packet_id, value, mark)
    assert struct.unpack_from("!BBH", body) == (Family.UNSPEC, 0, queue)
    found = dict(decode_attributes(body, 4))
    assert struct.unpack("!II", found.pop(2)) == (value, packet_id)
    assert found == ({} if mark is None else {3: mark.to_bytes(4, "big")})

"""Layers and fields of scapy by name, and the values of dissected packets."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.http2 import H2Frame
from scapy.contrib.mqtt import MQTT, MQTTPublish
from scapy.fields import Field
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.layers.snmp import SNMP, SNMPget, SNMPvarbind
from scapy.packet import Packet, Raw

from qfilter.fields import Type
from qfilter.names import services
from qfilter.scapy_layers import UnknownScapyError, layer_class, resolve, values

NUMBER, TEXT = Type.NUMBER, Type.TEXT


@pytest.mark.parametrize(
    ("layer", "field", "types"),
    [
        ("DNSQR", "qname", [TEXT]),
        ("DHCP", "options", [TEXT]),
        ("TCP", "flags", [NUMBER]),
        ("TCP", "options", [TEXT]),
        ("IP", "src", [TEXT]),
        ("IPv6", "dst", [TEXT]),
        ("ARP", "hwsrc", [TEXT]),
        ("Ether", "dst", [TEXT]),
        ("DNS", "opcode", [NUMBER]),
        ("DNS", "length", [NUMBER]),
        ("DNSRR", "rdata", [NUMBER, TEXT]),
        ("Raw", "load", [TEXT]),
        ("SNMP", "community", [TEXT]),
        ("SNMP", "version", [NUMBER]),
        ("HTTPRequest", "Path", [TEXT]),
        ("H2Frame", "stream_id", [NUMBER]),
        ("MQTTPublish", "topic", [TEXT]),
        ("GTP_U_Header", "teid", [NUMBER]),
        ("PFCP", "seid", [NUMBER]),
        ("TLSClientHello", "ciphers", [NUMBER, TEXT]),
        ("NTPHeader", "orig", [NUMBER, TEXT]),
    ],
)
def test_fields(layer: str, field: str, types: list[Type]) -> None:
    rows = resolve(layer, field)
    assert [row.type for row in rows] == types
    assert all(row.name == f"scapy.{layer}.{field}" and row.many for row in rows)


@pytest.mark.parametrize(
    ("layer", "field", "low", "high"),
    [
        ("TCP", "dataofs", 0, 15),
        ("TCP", "flags", 0, 511),
        ("UDP", "sport", 0, 65535),
        ("IP", "ttl", 0, 255),
        ("TCP", "seq", 0, 0xFFFFFFFF),
        ("NTPHeader", "precision", -128, 127),
    ],
)
def test_bounds(layer: str, field: str, low: int, high: int) -> None:
    (row,) = resolve(layer, field)
    assert (row.low, row.high) == (low, high)


def test_names_of_numbers() -> None:
    (opcode,) = resolve("DNS", "opcode")
    assert opcode.names == {"QUERY": 0, "IQUERY": 1, "STATUS": 2}
    (flags,) = resolve("TCP", "flags")
    assert (flags.names["S"], flags.names["A"]) == (2, 16)


def test_names_of_ports_do_not_come_from_this_machine() -> None:
    for layer, field in (("TCP", "dport"), ("UDP", "sport")):
        (row,) = resolve(layer, field)
        assert row.names == services().unambiguous


@pytest.mark.parametrize(
    ("layer", "field", "kind", "message", "suggestion"),
    [
        ("DNSQQ", "qname", "unknown-field", "scapy has no layer 'DNSQQ'", "DNSQR.qname"),
        ("dns", "qr", "unknown-field", "scapy has no layer 'dns'", "DNS.qr"),
        ("", "", "unknown-field", "scapy has no layer ''", None),
        ("ByteField", "name", "unknown-field", "scapy has no layer 'ByteField'", None),
        ("os", "path", "unknown-field", "scapy has no layer 'os'", None),
        ("DNS", "opcod", "unknown-field", "has no field 'opcod': expected one of length, id,", "DNS.opcode"),
        ("NTP", "orig", "unknown-field", "expected a layer made from it: NTPControl, NTPHeader, NTPPrivate", None),
        ("GTPHeader", "teid", "ambiguous-name", "in scapy.contrib.gtp and scapy.contrib.gtp_v2", None),
        ("DNS", "qd", "wrong-form", "scapy.DNS.qd holds layers: name a field of them, such as scapy.DNSQR.qname", None),
        ("IP", "options", "wrong-form", "scapy.IP.options holds layers", None),
    ],
)  # fmt: skip
def test_what_scapy_does_not_have(layer: str, field: str, kind: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(UnknownScapyError) as raised:
        resolve(layer, field)
    assert message in str(raised.value)
    assert raised.value.kind == kind
    if suggestion is not None:
        assert raised.value.suggestion == suggestion


def test_the_core_is_preferred_to_contrib() -> None:
    assert layer_class("IGMP").__module__ == "scapy.layers.igmp"


def test_only_what_is_named_is_loaded_and_nothing_is_said() -> None:
    program = (
        "import sys, qfilter.scapy_layers as s\n"
        "s.resolve('MQTTPublish', 'topic')\n"
        "print(*(f'scapy.contrib.{name}' in sys.modules for name in ('mqtt', 'gtp', 'http2')))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("True False False\n", "")


# Values


def dissected(built: Packet, layer: type[Packet]) -> Packet:
    found = type(built)(bytes(built)).getlayer(layer)
    assert isinstance(found, Packet)
    return found


DNS_QUERY = IP() / UDP() / DNS(opcode=2, qd=DNSQR(qname="a.example.org", qtype="AAAA"))
DHCP_REQUEST = (
    IP()
    / UDP(sport=68, dport=67)
    / BOOTP(chaddr=b"\x02\0\x5e\0\x53\1")
    / DHCP(options=[("message-type", "request"), ("name_server", "192.0.2.1", "192.0.2.2"), (224, b"x"), "end"])
)
SYN = IP(src="192.0.2.1", dst="198.51.100.1") / TCP(
    flags="SA", options=[("MSS", 1460), ("NOP", None), ("Timestamp", (1, 2))]
)
GET = IP() / UDP() / SNMP(community="private", PDU=SNMPget(varbindlist=[SNMPvarbind(oid="1.3.6.1")]))


@pytest.mark.parametrize(
    ("built", "layer", "field", "expected"),
    [
        (DNS_QUERY, DNS, "opcode", (2,)),
        (DNS_QUERY, DNS, "length", ()),
        (DNS_QUERY, DNS, "no such field", ()),
        (SYN, TCP, "flags", (18,)),
        (SYN, TCP, "options", (b"MSS=1460", b"NOP", b"Timestamp=1,2", b"EOL")),
        (SYN, IP, "src", (b"192.0.2.1",)),
        (SYN, IP, "flags", (0,)),
        (IPv6(dst="2001:db8::1") / UDP(), IPv6, "dst", (b"2001:db8::1",)),
        (ARP(hwsrc="02:00:5e:00:53:01"), ARP, "hwsrc", (b"02:00:5e:00:53:01",)),
        (
            DHCP_REQUEST,
            DHCP,
            "options",
            (b"message-type=3", b"name_server=192.0.2.1,192.0.2.2", b"224=x", b"end"),
        ),
        (IP() / UDP(sport=9, dport=9) / Raw(b"\xff\0"), Raw, "load", (b"\xff\0",)),
        (GET, SNMP, "community", (b"private",)),
        (GET, SNMP, "version", (1,)),
        (MQTT() / MQTTPublish(topic="a/b", value="hello"), MQTTPublish, "topic", (b"a/b",)),
        (H2Frame(stream_id=7), H2Frame, "stream_id", (7,)),
        (GTP_U_Header(teid=9), GTP_U_Header, "teid", (9,)),
    ],
)
def test_values(built: Packet, layer: type[Packet], field: str, expected: tuple[int | bytes, ...]) -> None:
    found = values(dissected(built, layer), field)
    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


def test_values_inside_a_list_of_layers() -> None:
    question = dissected(DNS_QUERY, DNS).qd[0]
    assert values(question, "qname") == (b"a.example.org.",)
    assert values(question, "qtype") == (28,)
    answer = dissected(IP() / UDP() / DNS(qr=1, an=DNSRR(rrname="a.", type="A", rdata="192.0.2.7")), DNS).an[0]
    assert values(answer, "rdata") == (b"192.0.2.7",)


def test_a_field_that_the_packet_is_too_short_for_has_no_value() -> None:
    assert values(DNSQR(b""), "qtype") == ()


class _Odd(Packet):
    """Values that no shipped layer has all of."""

    name = "odd"
    fields_desc = []  # noqa: RUF012 - scapy's way

    @classmethod
    def holding(cls, value: Any) -> Packet:
        made = type("Made", (cls,), {"fields_desc": [Field("f", None)]})()
        made.fields["f"] = value
        assert isinstance(made, Packet)
        return made


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ([], ()),
        (True, (1,)),
        ("\u00e4", ("\u00e4".encode(),)),
        (b"\xff", (b"\xff",)),
        (1.5, (b"1.5",)),
        ([1, b"a", [2, None]], (1, b"a", 2)),
        ({"b", "a"}, (b"a", b"b")),
        (("name", 1), (b"name=1",)),
        (("name",), (b"name",)),
        (("name", None), (b"name",)),
        (("name", b"\xff", [1, 2]), (b"name=\xff,1,2",)),
        ((), (b"",)),
        (Raw(b"inner"), (b"inner",)),
    ],
)
def test_values_of_every_kind(value: Any, expected: tuple[int | bytes, ...]) -> None:
    assert values(_Odd.holding(value), "f") == expected

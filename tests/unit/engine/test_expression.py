"""scapy expressions: layers with plain values, and nothing that runs."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.decode import decode
from qfilter.engine.expression import from_scapy
from qfilter.engine.readers import read
from qfilter.errors import PacketError

FIELDS = {"hook": "forward", "iifname": "eth0"}
EXPECTED = 'expected layers of scapy such as IP(dst="192.0.2.1")/TCP(dport=80)/"GET"'


@pytest.mark.parametrize(
    ("expression", "field", "value"),
    [
        ('IP(src="192.0.2.1", dst="192.0.2.2")/TCP(dport=80, flags="SA")/"GET"', "payload", b"GET"),
        ('IP(src="192.0.2.1", dst="192.0.2.2")/TCP(flags="SA", options=[("MSS", 500)])', "tcp.mss", 500),
        ('(IP(src="192.0.2.1", dst="192.0.2.2")/UDP(dport=53))/b"\\x00"', "payload", b"\0"),
        ('IPv6(src="::1", dst="::2")/UDP()/DNS(qd=[DNSQR(qname="x.example")])', "dport", 53),
        ('IP(src="192.0.2.1", dst="192.0.2.2")/ICMP()', "iifname", "eth0"),
    ],
)
def test_a_packet(expression: str, field: str, value: object) -> None:
    packet = decode(from_scapy(expression, FIELDS))
    assert (packet.malformed, read(packet, field)) == (None, value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("IP(", "packet 'IP(': '(' was never closed (<unknown>, line 1): " + EXPECTED),
        ("Ether()/IP()", "packet 'Ether()/IP()': expected IP or IPv6 as its first layer"),
        ("IP() + TCP()", "packet: 'IP() + TCP()': " + EXPECTED),
        ("__import__('os').system('true')", "packet: \"__import__('os').system('true')\": " + EXPECTED),
        ("IP(src=open('/etc/passwd'))", "packet: \"open('/etc/passwd')\": " + EXPECTED),
        ("IP(b'E')", "packet: \"IP(b'E')\": " + EXPECTED),
        ("TCP(seq=1)(dport=2)", "packet: 'TCP(seq=1)(dport=2)': " + EXPECTED),
        ("UDP(port=53)", "packet: 'port': expected a field of UDP, sport, dport, len, chksum"),
        ("UDP(**{'sport': 53})", "packet: None: expected a field of UDP, sport, dport, len, chksum"),
    ],
)
def test_refused(expression: str, message: str) -> None:
    with pytest.raises(PacketError) as error:
        from_scapy(expression, FIELDS)
    assert str(error.value) == message


def test_a_value_that_scapy_cannot_write() -> None:
    with pytest.raises(PacketError, match=r"^packet 'UDP\(sport=\"x\"\)/IP\(\)': "):
        from_scapy('UDP(sport="x")/IP()', FIELDS)


WORDS = st.sampled_from(
    ["IP", "TCP", "(", ")", "/", "dport", "=", "80", "'x'", "[", "]", ",", "lambda", ":", "-", "**"]
)


@given(st.one_of(st.lists(WORDS, max_size=12).map("".join), st.text(max_size=20)))
def test_any_text_is_a_packet_or_a_packet_error(expression: str) -> None:
    with suppress(PacketError):
        decode(from_scapy(expression, FIELDS))

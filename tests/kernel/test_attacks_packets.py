"""Packets made to get past a policy that only denies, with and without connection tracking; and large ones."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.running import PolicyFile, events
from tests.lab.clients import send_datagrams
from tests.lab.process import ROOT, wait_until
from tests.lab.servers import udp_counter
from tests.lab.service import serving
from tests.lab.topology import Lab
from tests.lab.wire import inject

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

PORT = 9
POLICY = """version: 1
default: {forward: accept}
queue: {backend: iptables-legacy}
rules:
  - {id: deny, match: {protocol: [tcp, udp], dport: 9}, log: true, verdict: drop}
"""
UDP, TCP, ROUTING, FRAGMENT, AH, NONE, OPTIONS = 17, 6, 43, 44, 51, 59, 60
PAYLOAD = b"denied" * 12
SOURCE, TARGET = {4: "192.0.2.2", 6: "2001:db8:1::2"}, {4: "198.51.100.2", 6: "2001:db8:2::2"}
ENDS = {version: [ipaddress.ip_address(each[version]).packed for each in (SOURCE, TARGET)] for version in (4, 6)}


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(version: int, port: int = PORT, payload: bytes = PAYLOAD) -> bytes:
    """A UDP datagram with a checksum that a receiver takes; `payload` has an even length."""
    head = struct.pack("!HHHH", 5, port, 8 + len(payload), 0)
    pseudo = b"".join(ENDS[version]) + struct.pack("!HH", UDP, 8 + len(payload))
    return head[:6] + struct.pack("!H", checksum(pseudo + head + payload)) + payload


def ipv4(data: bytes, *, protocol: int = UDP, offset: int = 0, more: bool = False, options: bytes = b"") -> bytes:
    words, flags = 5 + len(options) // 4, (0x2000 if more else 0) | offset // 8
    lengths = (0x40 | words, 0, words * 4 + len(data), 7, flags, 64, protocol, 0)
    head = struct.pack("!BBHHHBBH", *lengths) + b"".join(ENDS[4]) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data


def ipv6(data: bytes, following: int = UDP) -> bytes:
    return struct.pack("!IHBB", 0x60000000, len(data), following, 64) + b"".join(ENDS[6]) + data


def fragment6(data: bytes, *, offset: int = 0, more: bool = False, following: int = UDP) -> bytes:
    return ipv6(struct.pack("!BBHI", following, 0, offset | more, 7) + data, FRAGMENT)


def options(following: int, count: int = 1) -> bytes:
    """A chain of destination options headers of padding."""
    kinds = [OPTIONS] * (count - 1) + [following]
    return b"".join(bytes((kind, 0, 1, 4, 0, 0, 0, 0)) for kind in kinds)


KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
V4, V6 = datagram(4), datagram(6)
OTHER = datagram(4, 10)
ATTACKS = {
    "plain": [ipv4(V4)],
    "plain, IPv6": [ipv6(V6)],
    "two fragments": [ipv4(V4[:16], more=True), ipv4(V4[16:], offset=16)],
    "two fragments, the later first": [ipv4(V4[16:], offset=16), ipv4(V4[:16], more=True)],
    "a tiny first fragment": [ipv4(V4[:8], more=True), ipv4(V4[8:], offset=8)],
    "two first fragments": [ipv4(OTHER[:16], more=True), ipv4(V4[:16], more=True), ipv4(V4[16:], offset=16)],
    "another first fragment over it": [ipv4(V4[:16], more=True), ipv4(OTHER[:16], more=True), ipv4(V4[16:], offset=16)],
    "fragments that overlap": [ipv4(OTHER[:24], more=True), ipv4(V4[:8], more=True), ipv4(V4[24:], offset=24)],
    "IPv4 options": [ipv4(V4, options=b"\1" * 40)],
    "two fragments, IPv6": [fragment6(V6[:16], more=True), fragment6(V6[16:], offset=16)],
    "a later fragment that names no protocol": [
        fragment6(V6[:16], more=True),
        fragment6(V6[16:], offset=16, following=NONE),
    ],
    "an atomic fragment": [fragment6(V6)],
    "layer 4 in the second fragment": [
        fragment6(options(UDP), more=True, following=OPTIONS),
        fragment6(V6, offset=8, following=OPTIONS),
    ],
    "two fragment headers": [ipv6(struct.pack("!BBHIBBHI", FRAGMENT, 0, 0, 7, UDP, 0, 0, 7) + V6, FRAGMENT)],
    "hop-by-hop options": [ipv6(options(UDP) + V6, 0)],
    "hop-by-hop options that are not first": [ipv6(options(0) + options(UDP) + V6, OPTIONS)],
    "16 headers": [ipv6(options(UDP, 16) + V6, OPTIONS)],
    "17 headers": [ipv6(options(UDP, 17) + V6, OPTIONS)],
    "a routing header": [ipv6(struct.pack("!BBBB4x16s", UDP, 2, 253, 0, ENDS[6][1]) + V6, ROUTING)],
    "routing header 0": [ipv6(struct.pack("!BBBB4x16s", UDP, 2, 0, 0, ENDS[6][1]) + V6, ROUTING)],
    "an authentication header": [ipv6(struct.pack("!BBHII", UDP, 1, 0, 1, 1) + V6, AH)],
    "a UDP length of 0": [ipv4(V4[:4] + b"\0\0" + V4[6:])],
    "bytes behind the packet": [ipv4(V4)[:2] + ipv4(V4[:28])[2:20] + V4],
}


@contextmanager
def tracked(lab: Lab, *, on: bool) -> Iterator[None]:
    """With connection tracking fragments are put together before the queue."""
    if on:
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            lab.gateway.run(tool, "-t", "mangle", "-A", "PREROUTING", "-m", "conntrack", "--ctstate", "NEW")
    yield


each_tracking = pytest.mark.parametrize("tracking", [False, True], ids=["untracked", "tracked"])


@each_tracking
def test_no_shape_of_a_packet_hides_what_is_denied(lab: Lab, policy_file: PolicyFile, tracking: bool) -> None:
    with tracked(lab, on=tracking), serving(lab.gateway, policy_file(POLICY)), udp_counter(lab.server, PORT) as denied:
        for name, packets in ATTACKS.items():
            inject(lab.client, packets)
            wait_until(lambda: lab.gateway.queues()[0].waiting == 0, f"{name}: all should be decided")
        assert denied.collect(0) == 0


def test_the_same_shapes_arrive_where_nothing_denies_them(lab: Lab) -> None:
    """The attacks are real: without a firewall most of them deliver what they carry."""
    arrived = []
    with udp_counter(lab.server, PORT) as server:
        for name, packets in ATTACKS.items():
            before = len(server.received)
            inject(lab.client, packets)
            if server.collect(before + 1, timeout=0.1) > before:
                arrived.append(name)
    assert {"plain", "plain, IPv6", "two fragments", "two fragments, the later first", "a tiny first fragment"} <= set(
        arrived
    )
    assert {"two fragments, IPv6", "an atomic fragment", "hop-by-hop options", "16 headers"} <= set(arrived)
    assert {"a later fragment that names no protocol", "a routing header"} <= set(arrived)


@each_tracking
@pytest.mark.parametrize("family", [4, 6])
def test_a_word_behind_what_was_copied_is_not_overlooked(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, tracking: bool, family: int
) -> None:
    """Whole, in fragments, and as long as a datagram can be: unknown is not "no match"."""
    path = tmp_path / "events"
    text = POLICY.replace("dport: 9", "payload: {contains: EVIL}").replace("queue: {", "queue: {copy_range: 200, ")
    with (
        tracked(lab, on=tracking),
        serving(lab.gateway, policy_file(text), "--events", str(path)),
        udp_counter(lab.server, PORT) as server,
        lab.client.new_socket(KINDS[family], socket.SOCK_DGRAM) as sender,
    ):
        for size in (20, 1_000, 9_000, 65_000):
            sender.sendto(b"x" * (size - 4) + b"EVIL", (lab.server.address(family), PORT))
        sender.sendto(b"harmless", (lab.server.address(family), PORT))
        assert server.collect(1) == 1
        assert [each.payload for each in server.received] == [b"harmless"]
        causes = {event["reason"] for event in events(path, "failure")}
    assert causes == ({"truncated"} if tracking else {"truncated", "fragment"})


@each_tracking
@pytest.mark.parametrize("family", [4, 6])
def test_large_datagrams_arrive_whole(lab: Lab, policy_file: PolicyFile, tracking: bool, family: int) -> None:
    """9 KiB and nearly 64 KiB, by jumbo frames and by fragments."""
    lab.gateway.ip("link set lan mtu 9200")
    lab.client.ip("link set eth0 mtu 9200")
    text = "version: 1\ndefault: {forward: accept}\nqueue: {backend: iptables-legacy}\n"
    with tracked(lab, on=tracking), serving(lab.gateway, policy_file(text)), udp_counter(lab.server, PORT) as server:
        # Towards the server the path is 1,500 bytes wide: the first time it is only learned.
        for _ in range(2):
            for size in (9_000, 65_000):
                send_datagrams(lab.client, lab.server.address(family), PORT, 1, size=size)
        wait_until(lambda: {9_000, 65_000} <= {len(each.payload) for each in server.received}, "both should arrive")
        assert {each.payload.rstrip(b".") for each in server.received} == {b"0000000000"}


ACCEPTING = "version: 1\ndefault: {forward: accept}\nqueue: {backend: iptables-legacy}\n"
DEMO = (ROOT / "rules" / "demo.yaml").read_text()
MEGABYTES = 24


@pytest.mark.parametrize(("text", "family"), [(ACCEPTING, 4), (ACCEPTING, 6), (DEMO, 6)], ids=["4", "6", "demo, 6"])
def test_a_stream_of_super_packets_arrives_intact(lab: Lab, policy_file: PolicyFile, text: str, family: int) -> None:
    chunk = os.urandom(1 << 20)
    arrived = hashlib.sha256()

    def take(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 20):
                arrived.update(data)

    with (
        serving(lab.gateway, policy_file(text), "--format", "none"),
        lab.server.new_socket(KINDS[family], socket.SOCK_STREAM) as listener,
    ):
        listener.bind((lab.server.address(family), 80))
        listener.listen()
        with lab.client.new_socket(KINDS[family], socket.SOCK_STREAM) as sender:
            sender.settimeout(10.0)
            sender.connect((lab.server.address(family), 80))
            taker = threading.Thread(target=take, args=(listener.accept()[0],))
            taker.start()
            for _ in range(MEGABYTES):
                sender.sendall(chunk)
        taker.join()
        assert lab.gateway.queues()[0].last_id < (MEGABYTES << 20) // 1_448
    assert arrived.digest() == hashlib.sha256(chunk * MEGABYTES).digest()

"""Attacks from the client: the rules that the policy has for them decide, nothing of them arrives, and the client's own
traffic goes on meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.lab.process import wait_until
from vagrant.suite.machines import ATTACKER, SERVER, Machine, counts
from vagrant.suite.test_traffic import families, page

pytestmark = pytest.mark.usefixtures("calm")

LET_GO = "/tmp/let-go"
SLOW = """
import os, socket, sys, time
source, target, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
held = []
for _ in range(number):
    one = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET)
    one.bind((source, 0))
    one.setblocking(False)
    try: one.connect((target, 80))
    except BlockingIOError: pass
    held.append(one)
while not os.path.exists(sys.argv[4]): time.sleep(0.1)
open_ones = 0
for one in held:
    try: one.send(b"GET / HTTP/1.1\\r\\nX: "); open_ones += 1
    except OSError: pass
print(open_ones)
"""


@contextmanager
def nothing_arrives(server: Machine, of: str) -> Iterator[None]:
    """The server sees no packet of a kind (a filter of tcpdump's) while the block runs."""
    capture = "/tmp/capture.pcap"
    tcpdump = f"tcpdump -i wan -U --immediate-mode -w {capture} '{of}'"
    server.run(
        f"systemctl stop lab-capture 2>/dev/null; rm -f {capture}; systemd-run --unit lab-capture --collect {tcpdump}"
    )
    try:
        server.run(f"for n in $(seq 300); do [ -s {capture} ] && exit; sleep 0.2; done; exit 1")
        yield
    finally:
        server.run("systemctl stop lab-capture")
        seen = server.run(f"tcpdump -nr {capture} 2>/dev/null; rm {capture}")
    assert seen == ""


@contextmanager
def counted(firewall: Machine, *rules: str) -> Iterator[Mapping[str, int]]:
    """Each of the rules decides at least one packet while the block runs, and no packet has an error.

    Gives what they had decided before.
    """
    before = counts(firewall)
    yield before
    after = counts(firewall)
    assert {rule: after[rule] - before[rule] for rule in rules if after[rule] == before[rule]} == {}
    assert after["error"] == before["error"]


def wait_until_counted(firewall: Machine, rule: str, before: Mapping[str, int]) -> None:
    """It has decided more packets than before."""
    wait_until(lambda: counts(firewall)[rule] > before[rule], f"{rule} should decide packets", timeout=120)


def test_the_capture_sees_what_arrives(client: Machine, server: Machine) -> None:
    """Else all that follows would prove nothing."""
    with pytest.raises(AssertionError), nothing_arrives(server, "tcp dst port 80"):
        client.run(page(4))


@families
def test_a_port_scan_finds_only_what_is_offered(client: Machine, firewall: Machine, family: int) -> None:
    six = "-6 " if family == 6 else ""
    with counted(firewall, "trap", "scanner"):
        said = client.run(
            f"nmap {six}-n -Pn -sS -S {ATTACKER[family]} -e lan --max-retries 1 --host-timeout 250s "
            f"-p 21-25,80,443-445,3389 {SERVER[family]}",
            timeout=400,
        )
    opened = [line.split("/")[0] for line in said.splitlines() if "/tcp" in line and " open " in line]
    assert "scanned in" in said
    assert set(opened) <= {"80"}
    assert client.run(page(family)) == "hello\n"


def test_fragments_are_dropped(client: Machine, server: Machine, firewall: Machine) -> None:
    with (
        nothing_arrives(server, "src 192.0.2.2 and ip[6:2] & 0x3fff != 0"),
        counted(firewall, "icmp-fragment"),
    ):
        client.ask(f"ping -c 3 -W 3 -s 4000 {SERVER[4]}")


def test_tcp_in_fragments_is_dropped(client: Machine, server: Machine, firewall: Machine) -> None:
    with nothing_arrives(server, f"src {ATTACKER[4]}"), counted(firewall, "fragment"):
        client.ask(f"hping3 -a {ATTACKER[4]} -c 5 -i u100000 -f -d 64 -S -p 80 {SERVER[4]}")


def test_a_flood_is_limited_and_others_are_served(client: Machine, server: Machine, firewall: Machine) -> None:
    command = f"timeout 60 hping3 --flood -q -a {ATTACKER[4]} -S -p 80 {SERVER[4]}"
    with counted(firewall, "syn-flood", "flooder") as before, client.start(command) as flood:
        wait_until_counted(firewall, "flooder", before)
        assert client.run(page(4)) == "hello\n"
        assert client.run(page(6)) == "hello\n"
        assert flood.exit_code is None, "the pages came after the flood"
        flood.wait(timeout=120)
    with nothing_arrives(server, f"src {ATTACKER[4]}"), counted(firewall, "flooder"):
        client.ask(f"hping3 -a {ATTACKER[4]} -c 5 -i u100000 -S -p 80 {SERVER[4]}")


@pytest.mark.parametrize(
    ("source", "rule"),
    [("10.9.9.9", "spoofed"), (SERVER[4], "ours-from-outside"), ("203.0.113.9", "spoofed")],
)
def test_forged_sources(client: Machine, server: Machine, firewall: Machine, source: str, rule: str) -> None:
    with nothing_arrives(server, f"src {source} and udp dst port 5353"), counted(firewall, rule):
        client.ask(f"hping3 -a {source} -c 5 -i u100000 --udp -p 5353 {SERVER[4]}")


@families
def test_a_tunnel_in_names(client: Machine, server: Machine, firewall: Machine, family: int) -> None:
    name = "a" * 55 + ".lab.test"
    with nothing_arrives(server, "dst port 53"), counted(firewall, "dns-tunnel"):
        assert client.ask(f"dig +short +tries=2 +time=3 @{SERVER[family]} {name}").returncode == 9
    assert client.run(f"dig +short +tries=3 +time=20 @{SERVER[family]} www.lab.test").strip() == SERVER[4]


@families
def test_slow_http_gets_few_connections(client: Machine, firewall: Machine, family: int) -> None:
    client.run(f"rm -f {LET_GO}")
    command = f"timeout 300 python3 -c '{SLOW}' {ATTACKER[family]} {SERVER[family]} 150 {LET_GO}"
    with counted(firewall, "slow-http") as before, client.start(command) as held:
        wait_until_counted(firewall, "slow-http", before)
        assert client.run(page(family)) == "hello\n"
        client.run(f"touch {LET_GO}")
        assert held.wait(timeout=300) == 0
    assert 0 < int(held.output) < 150


@pytest.mark.parametrize("flags", ["-F -P -U", "", "-S -F"], ids=["xmas", "null", "syn-fin"])
def test_a_scan_with_flags_that_nobody_sends_is_malformed(
    client: Machine, server: Machine, firewall: Machine, flags: str
) -> None:
    with nothing_arrives(server, f"src {ATTACKER[4]}"), counted(firewall, "malformed"):
        client.ask(f"hping3 -a {ATTACKER[4]} -c 2 -i u100000 {flags} -p 80 {SERVER[4]}")

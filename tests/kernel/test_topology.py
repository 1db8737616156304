"""The lab itself: what crosses it, what it counts, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from tests.lab.clients import ping, send_datagrams
from tests.lab.leftovers import fresh_names, sweep
from tests.lab.namespace import FOLDER
from tests.lab.process import LabError, Running, environment, run, runs, wait_until
from tests.lab.servers import udp_counter
from tests.lab.topology import CLIENT_MAC, Lab
from tests.lab.wire import Tap, inject

families = pytest.mark.parametrize("family", [4, 6])

_OWNER = """
import sys
from tests.lab.topology import Lab
with Lab() as lab, lab.gateway.start("sleep", "60") as sleeper:
    print(sleeper.pid, *(host.name for host in lab.hosts), flush=True)
    sys.stdin.read()
"""


def standing(*names: str) -> list[str]:
    return [name for name in names if (FOLDER / name).exists()]


def host_state() -> str:
    """What of this host's own network a lab could change by mistake."""
    commands = (["ip", "-brief", "address"], ["ip", "route", "show", "table", "all"], ["sysctl", "net.ipv4.ip_forward"])
    return "".join(run(command).stdout for command in commands)


@families
def test_ping_crosses_the_gateway(lab: Lab, family: int) -> None:
    seen = ping(lab.client, lab.server.address(family), count=3)
    assert (seen.outcome, seen.count) == ("answered", 3)


@families
def test_without_forwarding_nothing_crosses(lab: Lab, family: int) -> None:
    lab.gateway.sysctl({4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}[family], 0)
    assert ping(lab.client, lab.gateway.address(family)).outcome == "answered"
    assert ping(lab.client, lab.server.address(family), timeout=0.3).outcome == "timed out"


@families
def test_exactly_as_many_datagrams_arrive_as_were_sent(lab: Lab, family: int) -> None:
    sources = lab.client.more_addresses(family, 50)
    with udp_counter(lab.server, 9) as counter:
        sent = send_datagrams(
            lab.client, lab.server.address(family), 9, 2_000, sources=sources, source_ports=(5_000, 5_001)
        )
        assert counter.collect(sent) == 2_000
    assert {(each.source, each.port) for each in counter.received} == {(s, p) for s in sources for p in (5_000, 5_001)}
    assert {int(each.payload[:10]) for each in counter.received} == set(range(2_000))


@families
def test_injected_bytes_arrive_as_they_were_but_for_the_hop(lab: Lab, family: int) -> None:
    ip = {4: IP, 6: IPv6}[family](src=lab.client.address(family), dst=lab.server.address(family))
    packet = bytes(ip / UDP(sport=5_000, dport=9) / b"as it was")
    with Tap(lab.server) as tap:
        assert inject(lab.client, [packet] * 3) == 3
        arrived = tap.collect(3, where=lambda data: data.endswith(b"as it was"))
    assert len(arrived) == 3
    ttl = {4: 8, 6: 7}[family]
    assert {data[ttl] for data in arrived} == {packet[ttl] - 1}
    assert {data[-17:] for data in arrived} == {packet[-17:]}


def test_two_labs_do_not_meet(lab: Lab) -> None:
    with Lab() as other:
        assert {host.name for host in lab.hosts}.isdisjoint(host.name for host in other.hosts)
        other.gateway.sysctl("net.ipv4.ip_forward", 0)
        assert ping(lab.client, lab.server.ipv4).outcome == "answered"


def test_this_host_stays_as_it_was(lab: Lab) -> None:
    before = host_state()
    with Lab() as other:
        assert ping(other.client, other.server.ipv4).outcome == "answered"
        assert host_state() == before
    assert host_state() == before


def test_entered_is_this_thread_inside_and_a_call_a_process_inside(lab: Lab) -> None:
    with lab.client.entered():
        inside = Path("/proc/thread-self/ns/net").stat().st_ino
    assert inside != Path("/proc/thread-self/ns/net").stat().st_ino
    assert CLIENT_MAC in lab.client.run("ip", "link", "show", "eth0").stdout
    assert lab.client.call(os.readlink, "/proc/self/ns/net") == f"net:[{inside}]"
    with pytest.raises(FileNotFoundError):
        lab.client.call(os.readlink, "/nowhere")


def test_a_failed_command_says_what_it_was_and_what_it_said(lab: Lab) -> None:
    with pytest.raises(LabError, match=r"ip link show nowhere: exit code 1: .*nowhere"):
        lab.client.run("ip", "link", "show", "nowhere")


def test_waiting_for_a_line_of_a_process_that_ends_shows_its_output(lab: Lab) -> None:
    with lab.client.start("sh", "-c", "echo ready; exit 3") as shell:
        assert shell.wait_for("ready") == "ready"
        with pytest.raises(LabError, match="ended with exit code 3 without 'serving':\nready"):
            shell.wait_for("serving")


def test_everything_goes_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), Lab() as lab, lab.gateway.start("sleep", "60") as sleeper:  # noqa: PT012
        names = [host.name for host in lab.hosts]
        raise ZeroDivisionError
    assert standing(*names) == []
    assert sleeper.exit_code == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_everything_goes_when_the_owner_is_ended_by(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert owner.stdout is not None
    with owner:
        sleeper, *names = owner.stdout.readline().split()
        assert standing(*names) == names
        owner.send_signal(number)
    wait_until(lambda: standing(*names) == [], "the dead owner's namespaces should go")
    wait_until(lambda: not runs(int(sleeper)), "what ran inside should go")


def test_the_sweep_takes_what_the_dead_left_and_spares_the_living() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, alive = f"qlab-{dead.pid}-1-1-gateway", fresh_names("gateway")[0]
    for name in (left, alive):
        run(["ip", "netns", "add", name])
    with Running(["ip", "netns", "exec", left, "sleep", "60"]) as sleeper:
        wait_until(lambda: f"{sleeper.pid}" in run(["ip", "netns", "pids", left]).stdout.split(), "sleep should start")
        assert left in sweep()
        assert sleeper.wait() == -signal.SIGKILL
    assert standing(left, alive) == [alive]
    run(["ip", "netns", "delete", alive])

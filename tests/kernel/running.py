"""What the tests of a service share: a policy, its events, and what stands in the kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qfilter.daemon import EngineName, Service, prepare
from qfilter.events.outputs import Outputs
from qfilter.events.record import Event
from qfilter.netlink.message import REQUEST, Message, encode_attributes, encode_message
from qfilter.netlink.nfnetlink import CONFIG, NETLINK_NETFILTER
from qfilter.policy.load import loads
from tests.lab.clients import Outcome, udp_ask
from tests.lab.namespace import Host, Namespace
from tests.lab.process import Running, wait_until
from tests.lab.service import qfilter

PolicyFile = Callable[[str], Path]

PORT = 9
POLICY = """version: 1
default: {forward: drop}
rules:
  - {id: wanted, match: {protocol: udp, dport: 9}, log: true, verdict: accept}
  - {id: refused, match: {protocol: tcp, dport: 23}, log: true, verdict: reject tcp-reset}
  - {id: answer, match: {protocol: udp, sport: 9}, verdict: accept}
"""

_COUNTED = re.compile(r" \[\d+:\d+\]| packets \d+ bytes \d+")
SAVES = ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save")


def command(host: Namespace, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`qfilter WORDS`, to its end."""
    return host.run(*qfilter(*words), check=check, timeout=30.0)


def events(path: Path, kind: str = "") -> list[dict[str, Any]]:
    """The whole lines of an events file so far, of one type or all."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    found = [json.loads(line) for line in lines]
    return [event for event in found if kind in ("", event["type"])]


def await_events(path: Path, kind: str, count: int) -> list[dict[str, Any]]:
    """The first `count` events of a type, as soon as they are there."""
    wait_until(lambda: len(events(path, kind)) >= count, f"{count} events of type {kind} should be in {path}")
    return events(path, kind)[:count]


def ruleset(host: Namespace) -> str:
    """All kernel rules of all tools without what changes by itself, so that two of them compare."""
    parts = [host.run(tool, check=False).stdout for tool in SAVES]
    parts.append(host.run("nft", "list", "ruleset", check=False).stdout)
    lines = "\n".join(parts).splitlines()
    return "\n".join(_COUNTED.sub("", line) for line in lines if not line.startswith("#"))


def is_installed(host: Namespace) -> bool:
    """Whether anything of qfilter's stands."""
    return "qfilter" in ruleset(host).lower()


def lines_of_table(output: str) -> dict[str, list[str]]:
    """The table of rules at the end: packets and bytes by what they were counted for."""
    lines = output.splitlines()
    start = max(number for number, line in enumerate(lines) if line.split()[:2] == ["rule", "verdict"])
    at = lines[start].index("verdict")
    rows = [line for line in lines[start + 1 :] if len(line) > at and line[at - 1] == " "]
    return {row[:at].strip(): row[at:].split() for row in rows}


def ask(client: Namespace, server: Host, family: int = 4) -> Outcome:
    """What a client sees of one datagram that the policy wants, and its echo."""
    return udp_ask(client, server.address(family), PORT).outcome


def pause(service: Running) -> None:
    """From now on no thread of it does anything, until SIGCONT."""
    service.send(signal.SIGSTOP)
    tasks = Path("/proc", str(service.pid), "task")
    wait_until(
        lambda: all(each.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T" for each in tasks.iterdir()),
        "every thread should stop",
    )


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def of(self, kind: str) -> list[Event]:
        """Those of one type."""
        return [event for event in self.events if event["type"] == kind]

    def wait_for(self, kind: str, count: int) -> list[Event]:
        """Those of one type, as soon as there are so many."""
        wait_until(lambda: len(self.of(kind)) >= count, f"{count} events of type {kind} should be told")
        return self.of(kind)

    def write(self, event: Event) -> None:
        self.events.append(event)

    def reopen(self) -> None:
        """Nothing to open."""

    def cancel(self) -> None:
        """Never waits."""

    def close(self) -> None:
        """Nothing to let go."""


@contextmanager
def in_force(
    host: Namespace,
    text: str,
    *,
    engine: EngineName = EngineName.NATIVE,
    install: bool = False,
    kept: Kept | None = None,
) -> Iterator[Service]:
    """A policy served by this process, in a namespace that its own thread is in while the `with` lasts."""
    outputs = Outputs()
    if kept is not None:
        outputs.to_sink(kept)
    with host.entered():
        plan = prepare(loads(text, "policy.yaml"), install=install, engine=engine)
        with Service(plan, outputs, engine=engine) as service:
            yield service
    outputs.close()


def unbind(host: Namespace, number: int) -> None:
    """Lets go a queue that this process serves, behind its back: the kernel takes that from the queue's own socket."""
    # NFQA_CFG_CMD with NFQNL_CFG_CMD_UNBIND.
    body = struct.pack("!BBH", 0, 0, number) + encode_attributes([(1, struct.pack("!BxH", 2, 0))])
    for each in _netfilter_sockets(host.queues()[number].port_id):
        each.send(encode_message(Message(type=CONFIG, flags=REQUEST, body=body)))
    assert number not in host.queues()


def _netfilter_sockets(port_id: int) -> Iterator[socket.socket]:
    """Those of this process that have a port, of whatever namespace."""
    for each in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(each).st_mode):
                with socket.socket(fileno=os.dup(each)) as found:
                    kind = (found.family, found.proto)
                    if kind == (socket.AF_NETLINK, NETLINK_NETFILTER) and found.getsockname()[0] == port_id:
                        yield found

"""client - gateway - server, and the three loads: flood, TCP stream, ping-pong.

What arrives at the server is counted and dropped in its raw PREROUTING, so that no socket costs anything there. The
flood's rate is taken while it lasts: it starts, settles, and then the server's counter is read twice. What waits in the
queue at the end, and how the flood starts and ends, are in no figure.

The ping-pong runs with both ends and the consumer on one CPU. Where the scheduler puts them decides otherwise: to wake
the other CPU costs several times the whole round trip. So every microsecond of the consumer shows.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.build import program
from tests.lab.namespace import Namespace
from tests.lab.process import LabError
from tests.lab.topology import Lab

FLOOD_PORTS = range(9000, 9016)
OTHER_PORT = 5353
"""Where the flood sends the packets that need scapy."""
ECHO_PORT, TCP_PORT = 7, 5201
SMALL = 18
"""UDP payload in bytes of what is called a 64-byte packet: the smallest Ethernet frame."""

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTLE = 0.5
_PING_CPU = 0
_QUIET = 0.9
_STRAYS = 64
"""Packets that are not the flood's and may come by the link meanwhile: ARP, neighbour discovery."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What processes have used up, added."""

    cpu_seconds: float
    resident_mib: float
    peak_mib: float

    @classmethod
    def of(cls, pids: Sequence[int]) -> Self:
        """utime + stime of /proc/PID/stat, VmRSS and VmHWM of /proc/PID/status, which a zombie lacks."""
        cpu = resident = peak = 0.0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / _TICKS
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines if line.startswith("Vm"))
            if "VmRSS" not in status:
                raise LabError(f"process {pid} has ended: expected one that decides packets")
            resident += int(status["VmRSS"].split()[0]) / 1024
            peak += int(status["VmHWM"].split()[0]) / 1024
        return cls(cpu, resident, peak)


@dataclass(frozen=True, slots=True)
class Flood:
    """What one flood did."""

    kpps: float
    """Packets that arrived at the server, thousands a second."""
    cpu_ns: float | None
    """The consumer's time for each of them; None without a consumer."""
    resident_mib: float | None
    peak_mib: float | None
    ordinary_kpps: float
    """Of `kpps`, those that were not for OTHER_PORT."""
    sent: int
    delivered: int
    """Packets of the whole flood, from the sink's rules, what waited in the queue at its end included."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Round trips of the ping-pong, in microseconds."""

    count: int
    lost: int
    p50: float
    p99: float


class Arena:
    """The lab with its sink, its echo and its TCP server."""

    def __init__(self) -> None:
        self._lab = Lab()
        self._sources: list[str] = []
        self._targets: list[str] = []

    def __enter__(self) -> Self:
        self._lab.__enter__()
        try:
            self._sources = self._lab.client.more_addresses(4, 16)
            self._targets = self._lab.server.more_addresses(4, 16)
            # The server's tables are written once; nothing but the flood goes to these ports.
            self._lab.server.run("iptables-legacy-restore", stdin=_SINK)
        except BaseException:
            self._lab.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lab.__exit__(kind, error, trace)

    @property
    def gateway(self) -> Namespace:
        """Where the packets are decided."""
        return self._lab.gateway

    @contextmanager
    def queued(self, queues: int = 1) -> Iterator[None]:
        """Every forwarded packet goes to queues 0 to `queues` - 1, by the hash of its addresses."""
        target = ["--queue-num", "0"] if queues == 1 else ["--queue-balance", f"0:{queues - 1}"]
        with self.ruled("iptables-legacy", "-A", "FORWARD", "-j", "NFQUEUE", *target):
            yield

    @contextmanager
    def ruled(self, *command: str, stdin: str = "") -> Iterator[None]:
        """The gateway with what a command puts into its tables, empty again afterwards."""
        self.gateway.run(*command, stdin=stdin, timeout=300.0)
        try:
            yield
        finally:
            self.gateway.run("iptables-legacy", "-F")
            self.gateway.run("nft", "flush", "ruleset")

    @contextmanager
    def frames(self, mtu: int) -> Iterator[None]:
        """All links with another MTU."""
        self._set_mtu(mtu)
        try:
            yield
        finally:
            self._set_mtu(1500)

    def flood(
        self,
        pids: Sequence[int] = (),
        seconds: float = 3.0,
        size: int = SMALL,
        others_every: int = 0,
        meanwhile: Callable[[], None] | None = None,
    ) -> Flood:
        """Floods for `seconds` after it has settled, while `pids` decide; LabError when nothing arrives.

        `size` is UDP payload in bytes; one packet of `others_every` goes to OTHER_PORT. `meanwhile` runs between the
        two looks at the counter, and then they are as far apart as it takes, `seconds` at least.
        """
        self._lab.server.run("iptables-legacy", "-t", "raw", "-Z")
        length = 600.0 if meanwhile else _SETTLE + seconds + 0.3
        command = (program("flood"), f"{length}", f"{size}", ",".join(self._sources), ",".join(self._targets))
        ports = (f"{FLOOD_PORTS.start}", f"{OTHER_PORT}", f"{others_every}")
        with self._lab.client.start(*command, *ports) as sender:
            time.sleep(_SETTLE)
            first, before, start = self._received(), Usage.of(pids), time.monotonic()
            if meanwhile is not None:
                meanwhile()
            time.sleep(max(0.0, start + seconds - time.monotonic()))
            last, after, end = self._received(), Usage.of(pids), time.monotonic()
            if sender.exit_code is not None:
                raise LabError(f"{sender.command}: ended early: {sender.output}")
            if meanwhile is not None:
                sender.kill()
            sent = 0 if meanwhile else json.loads(sender.wait_for("sent"))["sent"]
        arrived = last - first
        ordinary, others = self._settled_sink()
        if not ordinary + others:
            raise LabError(f"no packet of the flood arrived in {seconds:g} s")
        if not 0 < arrived <= ordinary + others + _STRAYS:
            raise LabError(f"the link brought {arrived} packets to the server, its rules saw {ordinary + others}")
        rate = arrived / (end - start) / 1e3
        return Flood(
            kpps=rate,
            cpu_ns=(after.cpu_seconds - before.cpu_seconds) * 1e9 / arrived if pids else None,
            resident_mib=after.resident_mib if pids else None,
            peak_mib=after.peak_mib if pids else None,
            ordinary_kpps=rate * ordinary / (ordinary + others),
            sent=sent,
            delivered=ordinary + others,
        )

    def tcp(self, seconds: int = 4) -> float:
        """Gbit/s of payload that one stream carries from client to server."""
        with self._lab.server.start("iperf3", "-s", "-1", "-p", f"{TCP_PORT}", "--forceflush") as server:
            server.wait_for("listening")
            target = self._lab.server.ipv4
            told = self._lab.client.run(
                "iperf3", "-J", "-c", target, "-p", f"{TCP_PORT}", "-t", f"{seconds}", timeout=seconds + 60.0
            )
        bits: float = json.loads(told.stdout)["end"]["sum_received"]["bits_per_second"]
        return bits / 1e9

    def pingpong(self, pids: Sequence[int] = (), count: int = 20_000, seconds: float = 5.0) -> Latency:
        """`count` round trips from client to server, or as many as `seconds` have, all on one CPU with `pids`."""
        address = (self._lab.server.ipv4, f"{ECHO_PORT}")
        alone = ("taskset", "-c", f"{_PING_CPU}", program("pingpong"))
        with self._lab.server.start(*alone, "serve", *address) as echo, _on_cpu(_PING_CPU, pids):
            echo.wait_for("ready")
            told = self._lab.client.run(*alone, "ask", *address, f"{count}", f"{seconds:g}", timeout=seconds + 30.0)
        return Latency(**json.loads(told.stdout))

    def _received(self) -> int:
        """Packets that came in by the server's link. One read of a file, at once, also when both CPUs are busy."""
        with self._lab.server.entered():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        (row,) = (line.split() for line in lines if line.lstrip().startswith(f"{self._lab.server.interface}:"))
        return int(row[2])

    def _settled_sink(self) -> tuple[int, int]:
        """Packets that the two rules of the sink have dropped, when nothing more comes."""
        seen = self._sink()
        while True:
            time.sleep(0.1)
            before, seen = seen, self._sink()
            if seen == before:
                return seen

    def _sink(self) -> tuple[int, int]:
        listed = self._lab.server.run("iptables-legacy", "-t", "raw", "-nvxL", "PREROUTING").stdout.splitlines()
        ordinary, others = (int(line.split()[0]) for line in listed[2:])
        return ordinary, others

    def _set_mtu(self, mtu: int) -> None:
        for host, links in zip(self._lab.hosts, (["eth0"], ["lan", "wan"], ["eth0"]), strict=True):
            host.ip(*(f"link set {link} mtu {mtu}" for link in links))


def idle_share(patience: float) -> float:
    """How idle the machine is before a load, 0 to 1: at least 0.9, unless others work for longer than `patience`."""
    deadline = time.monotonic() + patience
    while True:
        idle, total = _cpu_ticks()
        time.sleep(0.3)
        now_idle, now_total = _cpu_ticks()
        share = (now_idle - idle) / max(1, now_total - total)
        if share >= _QUIET or time.monotonic() >= deadline:
            return share


def _cpu_ticks() -> tuple[int, int]:
    """Of all CPUs together since boot: idle, and all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


@contextmanager
def _on_cpu(number: int, pids: Sequence[int]) -> Iterator[None]:
    """All threads of processes on one CPU, and back to where each was allowed before."""
    threads = [int(task.name) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    for thread in threads:
        os.sched_setaffinity(thread, {number})
    try:
        yield
    finally:
        for thread, cpus in before.items():
            os.sched_setaffinity(thread, cpus)


_SINK = f"""*raw
-A PREROUTING -p udp --dport {FLOOD_PORTS.start}:{FLOOD_PORTS.stop - 1} -j DROP
-A PREROUTING -p udp --dport {OTHER_PORT} -j DROP
COMMIT
"""

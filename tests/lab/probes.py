"""What this machine can do, tried and not guessed, in namespaces that are thrown away.

"Not supported" is the machine's nature, and a test that needs it is skipped. "Broken" is everything else: the thing is
there and does not do what it should, and a test that needs it fails.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.lab.holder import CONNTRACK, QueueHolder
from tests.lab.leftovers import fresh_names, remove
from tests.lab.namespace import Namespace
from tests.lab.process import ROOT, LabError, environment, run

_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_PORT = 9
_SCTP = 132  # IPPROTO_SCTP

# How the tools and the kernel say that a part was not built, installed or loaded.
_ABSENT = re.compile(
    r"No such file or directory|[Nn]ot supported|No chain/target/match by that name|does not exist"
    r"|[Mm]issing kernel module|do you need to insmod|[Cc]ouldn't load|Unknown device type"
)
_ABSENT_ERRNO = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOENT)


class State(StrEnum):
    """What a probe found."""

    WORKS = "works"
    NOT_SUPPORTED = "not supported"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """A probe's word, and the tool's or the kernel's own words for it."""

    state: State
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.why}" if self.why else f"{self.state}"


class NotSupportedError(Exception):
    """Ends a probe with "not supported"; a return is "works", any LabError or OSError "broken"."""


@functools.cache
def probe(name: str) -> Finding:
    """The finding for one of NAMES; each is tried once in a process."""
    try:
        _PROBES[name]()
    except NotSupportedError as absence:
        return Finding(State.NOT_SUPPORTED, f"{absence}")
    except (LabError, OSError) as error:
        return Finding(State.BROKEN, f"{error}")
    return Finding(State.WORKS)


def _root() -> None:
    if os.geteuid():
        raise NotSupportedError("needs root")
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    for bit, name in ((_CAP_NET_ADMIN, "CAP_NET_ADMIN"), (_CAP_SYS_ADMIN, "CAP_SYS_ADMIN")):
        if not effective >> bit & 1:
            raise NotSupportedError(f"root without {name}, as in a container")


def _netns() -> None:
    _need("root")
    _installed("ip")
    here, there = fresh_names("probe", "peer")
    try:
        for name in (here, there):
            _try("ip", "netns", "add", name)
        _try("ip", "-n", here, "link", "add", "qlab0", "type", "veth", "peer", "name", "qlab1", "netns", there)
        if "qlab1" not in Namespace(there).run("ip", "link", "show").stdout:
            raise LabError("ip netns exec: a veth end that was put into the namespace is not seen in it")
    finally:
        remove(here)
        remove(there)


def _ipv6() -> None:
    with _throwaway() as namespace:
        if not Path("/proc/sys/net/ipv6").exists():
            raise NotSupportedError("the kernel has no IPv6")
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 0)
        with namespace.new_socket(socket.AF_INET6, socket.SOCK_DGRAM) as each:
            each.bind(("::1", 0))


def _nfqueue(flags: int = 0) -> None:
    with _throwaway() as namespace:
        try:
            with QueueHolder(namespace, 0, flags):
                bound = namespace.queues()
        except OSError as error:
            if error.errno in _ABSENT_ERRNO:
                raise NotSupportedError(f"binding queue 0: {error.strerror}") from error
            raise
        if list(bound) != [0]:
            raise LabError(f"queue 0 was bound, nfnetlink_queue lists {list(bound)}")


def _nfqueue_conntrack() -> None:
    _need("nfqueue")
    _nfqueue(CONNTRACK)


def _iptables(tool: str, *target: str) -> None:
    """Both families: each must put a datagram into queue 0."""
    for family, command in ((4, tool), (6, f"ip6{tool.removeprefix('ip')}")):
        rule = (command, "-A", "OUTPUT", "-p", "udp", "--dport", f"{_PORT}", "-j", *target)
        _rule_queues(family, [rule])


def _nft_queue() -> None:
    _need("nft")
    table = "add table inet qlab; add chain inet qlab out { type filter hook output priority 0; }"
    rule = f"add rule inet qlab out udp dport {_PORT} queue num 0"
    for family in (4, 6):
        _rule_queues(family, [("nft", table), ("nft", rule)])


def _nft() -> None:
    _need("netns")
    _installed("nft")
    with _throwaway() as namespace:
        _try("nft", "add table inet qlab", inside=namespace)
        if "table inet qlab" not in namespace.run("nft", "list", "ruleset").stdout:
            raise LabError("nft: a table that was added is not listed")


def _nft_nat() -> None:
    _need("nft")
    choice = "numgen inc mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }"
    with _throwaway() as namespace:
        _try(
            "nft",
            "add table ip qlab; add chain ip qlab pre { type nat hook prerouting priority -100; }",
            inside=namespace,
        )
        _try("nft", f"add rule ip qlab pre udp dport {_PORT} dnat to {choice}", inside=namespace)


def _conntrack() -> None:
    with _throwaway() as namespace:
        _installed("conntrack")
        _try("conntrack", "-L", inside=namespace)


def _ping() -> None:
    _installed("ping")
    version = run(["ping", "-V"], check=False)
    if "iputils" not in version.stdout + version.stderr:
        raise NotSupportedError("ping is not the one of iputils")


def _curl() -> None:
    _installed("curl")
    run(["curl", "--version"])


def _rule_queues(family: int, commands: list[tuple[str, ...]]) -> None:
    _need("nfqueue")
    with _throwaway() as namespace, QueueHolder(namespace, 0):
        _installed(commands[0][0])
        for command in commands:
            _try(*command, inside=namespace)
        _send_one(namespace, family)
        queued = namespace.queues()[0].last_id
        if queued != 1:
            raise LabError(f"{' '.join(commands[-1])}: installed, but {queued} of 1 datagrams came to queue 0")


def _send_one(namespace: Namespace, family: int) -> None:
    version, address = (socket.AF_INET, "127.0.0.1") if family == 4 else (socket.AF_INET6, "::1")
    with namespace.new_socket(version, socket.SOCK_DGRAM) as each:
        each.sendto(b"probe", (address, _PORT))


@contextmanager
def _throwaway() -> Iterator[Namespace]:
    _need("netns")
    (name,) = fresh_names("probe")
    try:
        run(["ip", "netns", "add", name])
        namespace = Namespace(name)
        namespace.ip("link set lo up")
        yield namespace
    finally:
        remove(name)


def _need(name: str) -> None:
    finding = probe(name)
    if finding.state is State.NOT_SUPPORTED:
        raise NotSupportedError(f"{name}: {finding.why}")
    if finding.state is State.BROKEN:
        raise LabError(f"{name}: {finding.why}")


def _installed(tool: str) -> None:
    if shutil.which(tool, path=environment()["PATH"]) is None:
        raise NotSupportedError(f"{tool} is not installed")


def _try(*command: str, inside: Namespace | None = None) -> None:
    done = run(command, check=False) if inside is None else inside.run(*command, check=False)
    if done.returncode == 0:
        return
    said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
    if _ABSENT.search(said):
        raise NotSupportedError(f"{command[0]}: {said}")
    raise LabError(f"{' '.join(command)}: exit code {done.returncode}: {said}")


def _user_namespaces() -> None:
    done = run(["unshare", "--user", "--map-root-user", "true"], check=False)
    if "Operation not permitted" in done.stderr:
        raise NotSupportedError("user namespaces: refused, as in every chroot")
    if done.returncode:
        raise LabError(f"unshare --user: exit code {done.returncode}: {done.stderr.strip()}")


def _live_rename() -> None:
    with _throwaway() as namespace:
        _try("ip", "link", "add", "qlab0", "up", "type", "veth", "peer", "name", "qlab1", inside=namespace)
        done = namespace.run("ip", "link", "set", "qlab0", "name", "qlab2", check=False)
        if "busy" in done.stderr:
            raise NotSupportedError("an interface that is up keeps its name, as before Linux 6.2")
        if done.returncode:
            raise LabError(f"ip link set name: {done.stderr.strip()}")


def _sctp() -> None:
    _need("netns")
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, _SCTP).close()
    except OSError as error:
        if error.errno in _ABSENT_ERRNO:
            raise NotSupportedError(f"SCTP: {error.strerror}") from error
        raise


def _rust() -> None:
    """Without it `make` sets nothing up: qfilter is installed as a wheel here, as in the lab of virtual machines."""
    done = run([f"{ROOT}/tools/rust", "true"], check=False)
    if done.returncode:
        raise NotSupportedError(done.stderr.strip())


_PROBES: dict[str, Callable[[], None]] = {
    "root": _root,
    "netns": _netns,
    "ipv6": _ipv6,
    "nfqueue": _nfqueue,
    "nfqueue-conntrack": _nfqueue_conntrack,
    "iptables-legacy": functools.partial(_iptables, "iptables-legacy", "NFQUEUE", "--queue-num", "0"),
    "iptables-legacy-queue": functools.partial(_iptables, "iptables-legacy", "QUEUE"),
    "iptables-nft": functools.partial(_iptables, "iptables-nft", "NFQUEUE", "--queue-num", "0"),
    "iptables-nft-queue": functools.partial(_iptables, "iptables-nft", "QUEUE"),
    "nft": _nft,
    "nft-queue": _nft_queue,
    "nft-nat": _nft_nat,
    "conntrack": _conntrack,
    "ping": _ping,
    "curl": _curl,
    "sctp": _sctp,
    "live-rename": _live_rename,
    "user-namespaces": _user_namespaces,
    "rust": _rust,
}

NAMES = tuple(_PROBES)
"""`iptables-*` is the NFQUEUE target in both families, `iptables-*-queue` QUEUE, `nft-queue` nft's statement."""

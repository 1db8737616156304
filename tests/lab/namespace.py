"""One network namespace: commands, children and sockets inside it."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.lab.process import LabError, Running, environment, patient, run

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = Path("/run/netns")
"""Where `ip netns` keeps the names."""
_CLONE_NEWNET = 0x4000_0000
_SO_RCVBUFFORCE = 33
_libc = ctypes.CDLL(None, use_errno=True)


def force_receive_buffer(receiver: socket.socket, size: int) -> None:
    """So many bytes, whatever the system's limit is."""
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One line of /proc/net/netfilter/nfnetlink_queue, as the kernel sees that queue."""

    number: int
    port_id: int
    waiting: int
    copy_mode: int
    copy_range: int
    dropped_full: int
    dropped_socket: int
    last_id: int
    """How many packets were ever queued."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace that exists already; the topology makes and removes the lab's own."""

    name: str

    def run(
        self, *command: str, check: bool = True, stdin: str = "", timeout: float = 15.0
    ) -> subprocess.CompletedProcess[str]:
        """The finished command; LabError when it fails, unless `check` is off."""
        return run(self._inside(*command), check=check, stdin=stdin, timeout=timeout)

    def start(
        self,
        *command: str,
        on_line: Callable[[str], None] | None = None,
        extra_environment: Mapping[str, str] | None = None,
        terminal: bool = False,
    ) -> Running:
        """The command, running; use it in a `with`."""
        inside = self._inside(*command)
        return Running(inside, on_line=on_line, extra_environment=extra_environment, terminal=terminal)

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of an importable module returns in a new Python process inside the namespace.

        Arguments, result and exception are pickled. For code that only needs sockets, `entered` is much cheaper.
        """
        try:
            done = subprocess.run(
                self._inside(sys.executable, "-m", "tests.lab.inside"),
                input=pickle.dumps((function, args, kwargs)),
                capture_output=True,
                timeout=patient(60.0),
                env=environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise LabError(f"{function.__qualname__} in {self.name}: no end after {late.timeout:g} s") from late
        if done.returncode:
            raise LabError(f"{function.__qualname__} in {self.name}: {done.stderr.decode(errors='replace').strip()}")
        failed, value = pickle.loads(done.stdout)
        if failed:
            raise value
        result: T = value
        return result

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and no other, inside the namespace: sockets and children made here stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(FOLDER / self.name, os.O_RDONLY)
        try:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(home)
        finally:
            os.close(there)
            os.close(home)

    def new_socket(self, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, for use from anywhere in this process."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def sysctl(self, name: str, value: int) -> None:
        """Sets `net.ipv4.ip_forward` and its like."""
        with self.entered():
            Path("/proc/sys", *name.split(".")).write_text(f"{value}\n")

    def ip(self, *lines: str) -> None:
        """Lines for `ip -batch` here, all or LabError."""
        run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def rename(self, interface: str, name: str) -> None:
        """Gives an interface another name while its addresses stay; down meanwhile, as Linux 6.1 demands."""
        self.sysctl(f"net.ipv6.conf.{interface}.keep_addr_on_down", 1)
        for change in ((interface, "down"), (interface, "name", name), (name, "up")):
            self.run("ip", "link", "set", *change)

    def queues(self) -> dict[int, QueueRow]:
        """The bound NFQUEUE queues by number."""
        with self.entered():
            text = Path("/proc/thread-self/net/netfilter/nfnetlink_queue").read_text()
        rows = (QueueRow(*map(int, line.split()[:8])) for line in text.splitlines())
        return {row.number: row for row in rows}

    def pids(self) -> set[int]:
        """The processes whose main thread is inside, never this one."""
        listed = run(["ip", "netns", "pids", self.name], check=False).stdout.split()
        return set(map(int, listed)) - {os.getpid()}

    def _inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]


@dataclass(frozen=True, slots=True)
class Host(Namespace):
    """A namespace with an address of each family on one interface."""

    ipv4: str
    ipv6: str
    interface: str
    mac: str
    router_mac: str = ""
    """Of the next hop towards the other end; empty for the gateway itself."""

    def address(self, family: int) -> str:
        """Family 4 or 6, so that one test covers both."""
        return {4: self.ipv4, 6: self.ipv6}[family]

    def more_addresses(self, family: int, count: int) -> list[str]:
        """Further addresses of this host in its own subnet, `count` of them (at most 100), usable at once."""
        if not 0 < count <= 100:
            raise ValueError(f"count {count}: expected 1 to 100")
        base = ipaddress.ip_address(self.address(family))
        new = [str(base + 98 + index) for index in range(count)]
        length = 24 if family == 4 else 64
        self.ip(*(f"addr replace {address}/{length} dev {self.interface} nodad" for address in new))
        return new


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")

"""Which queues are bound, how they fare, and who holds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qfilter.errors import PrivilegeError, UnsupportedError
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER, CopyMode

# `thread-self`: /proc/net shows the namespace of the process's first thread.
_NET = Path("/proc/thread-self/net")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundQueue:
    """One line of /proc/net/netfilter/nfnetlink_queue."""

    number: int
    port_id: int
    """Of the netlink socket that holds it; the process's id more often than not."""
    waiting: int
    """Packets in the kernel without a verdict yet."""
    copy_mode: CopyMode
    copy_range: int
    dropped_full: int
    """Dropped since it was bound because `length` packets waited already."""
    dropped_socket: int
    """Dropped because the socket's receive buffer was full."""
    last_id: int
    """Of the last packet that was sent to the socket; ids count from 1."""


def bound_queues() -> dict[int, BoundQueue]:
    """The bound queues of the thread's network namespace by number; empty also where nfnetlink_queue is not loaded.

    Raises PrivilegeError, and UnsupportedError for a line of another format.
    """
    try:
        text = (_NET / "netfilter/nfnetlink_queue").read_text()
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise PrivilegeError("reading /proc/net/netfilter/nfnetlink_queue: expected root") from None
    return {row.number: row for row in map(parse_row, text.splitlines())}


def parse_row(line: str) -> BoundQueue:
    """Raises UnsupportedError for a line that is not eight numbers or more."""
    try:
        number, port_id, waiting, mode, limit, full, socket, last = map(int, line.split()[:8])
        return BoundQueue(
            number=number,
            # Printed as %d or %u, by the kernel's age; a port id above 2**31 is as good as any.
            port_id=port_id % (1 << 32),
            waiting=waiting,
            copy_mode=CopyMode(mode),
            copy_range=limit,
            dropped_full=full,
            dropped_socket=socket,
            last_id=last,
        )
    except ValueError:
        raise UnsupportedError(f"/proc/net/netfilter/nfnetlink_queue: {line!r}: expected eight numbers") from None


def holder(port_id: int) -> str:
    """The process behind a netlink port of the thread's namespace, such as `process 812 (suricata)`.

    `an unknown process` where none can be seen: it lives in another pid namespace, or belongs to somebody else.
    """
    inode = _socket_inode(port_id)
    pid = _process_with(f"socket:[{inode}]") if inode is not None else None
    if pid is None:
        return "an unknown process"
    try:
        # A process chooses its own name, any bytes: they are shown escaped, and never reach a terminal.
        return f"process {pid} ({repr(Path('/proc', pid, 'comm').read_bytes()[:-1])[2:-1]})"
    except OSError:
        return f"process {pid}"


def _socket_inode(port_id: int) -> str | None:
    for line in (_NET / "netlink").read_text().splitlines()[1:]:
        _, protocol, port, *_, inode = line.split()
        if int(protocol) == NETLINK_NETFILTER and int(port) % (1 << 32) == port_id:
            return inode
    return None


def _process_with(link: str) -> str | None:
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if any(str(entry.readlink()) == link for entry in (process / "fd").iterdir()):
                return process.name
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return None

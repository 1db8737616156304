"""The firewall tools of this machine: where they are, and how they are called. The only file that starts a process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qfilter.errors import FirewallError, PrivilegeError
from qfilter.fields import Family
from qfilter.firewall.state import Command
from qfilter.model.policy import Backend
from qfilter.text import escaped

LOCK_WAIT = 5
"""Seconds that iptables-legacy waits for the lock that its other callers hold."""

_TIMEOUT = 30
"""Seconds after which a tool is taken to hang; long enough for the lock and tens of thousands of foreign rules."""

_STATUS = Path("/proc/thread-self/status")
_CAP_NET_ADMIN = 12
_CAP_SYS_ADMIN = 21
_MISSING = "not installed"
_LACKING = (
    "not supported",
    _MISSING,
    "No such file or directory",
    "No chain/target/match by that name",
    "Table does not exist",
    "can't initialize",
    "Couldn't load",
    "unknown option",
)
_PREFIX = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}


@dataclass(frozen=True, slots=True)
class Iptables:
    """Full paths of one kind of iptables for one family."""

    restore: str
    save: str


def families() -> tuple[Family, ...]:
    """The families of this kernel: without IPv6 at all (`ipv6.disable=1`) IPv4 alone is the whole."""
    return tuple(Family) if Path("/proc/thread-self/net/if_inet6").exists() else (Family.IPV4,)


def iptables(backend: Backend, family: Family) -> Iptables:
    """The tools of a kind and family. Raises FirewallError with the name that is missing."""
    kind = backend.value.removeprefix("iptables-")
    prefix = _PREFIX[family]
    return Iptables(*(_find_kind(f"{prefix}-{kind}-{verb}", f"{prefix}-{verb}", kind) for verb in ("restore", "save")))


def nft() -> str:
    """The full path of nft. Raises FirewallError when it is not there."""
    return _find("nft")


def default_kind() -> Backend:
    """What the system's own `iptables` command is; without one, or before there were two kinds, legacy."""
    return Backend.IPTABLES_NFT if _kind("iptables") == "nft" else Backend.IPTABLES_LEGACY


def run(command: Command) -> str:
    """Standard output of a tool, called without a shell. Raises FirewallError, with its own words, when it fails.

    What is no UTF-8 is kept (surrogateescape): `qfilter.text.escaped` before it is printed.
    """
    return _run(command, {})


def run_apart(command: Command) -> str:
    """The same in a network namespace of its own, which ends with it; as root of a user namespace where needed.

    Root of a container has CAP_NET_ADMIN often, but seldom the CAP_SYS_ADMIN that a namespace takes. The lock of
    iptables-legacy guards the tables of the host, which is another namespace, and only root can take it.
    """
    unshare = ("unshare", "--net") if _may(_CAP_SYS_ADMIN) else ("unshare", "--user", "--map-root-user", "--net")
    return _run(Command((*unshare, *command.words), command.text), {"XTABLES_LOCKFILE": os.devnull})


def is_unsupported(said: str) -> bool:
    """Whether a tool's words mean that the kernel or the tool lacks something, not that something broke."""
    return any(phrase in said for phrase in _LACKING)


def is_missing(error: FirewallError) -> bool:
    """Whether the tool itself is not here."""
    return error.output == _MISSING


def _run(command: Command, extra: Mapping[str, str]) -> str:
    environment = {"PATH": _path(), "LC_ALL": "C", **extra}
    try:
        done = subprocess.run(  # noqa: S603
            command.words,
            input=command.text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            timeout=_TIMEOUT,
            env=environment,
            check=False,
            process_group=0,  # a second Ctrl-C on the terminal must not end the tool that removes the rules
        )
    except OSError as error:
        raise FirewallError(str(command), f"{command.words[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise FirewallError(str(command), f"no answer within {_TIMEOUT} s") from None
    if done.returncode != 0:
        said = _text(done.stderr).split("\n")
        raise FirewallError(str(command), "\n".join(map(escaped, said)).strip() or f"exit code {done.returncode}")
    return _text(done.stdout)


def _text(said: bytes) -> str:
    # names and comments are any bytes: they must come back as they are where a rule is put back or deleted
    return said.decode("utf-8", "surrogateescape")


def require_privilege(action: str) -> None:
    """Raise PrivilegeError unless this process may do `action` (such as "installing kernel rules")."""
    if not _may(_CAP_NET_ADMIN):
        raise PrivilegeError(f"{action} needs root or CAP_NET_ADMIN")


def _may(capability: int) -> bool:
    """Whether this process has a capability of linux/capability.h in effect."""
    status = _STATUS.read_text(encoding="ascii", errors="replace")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


def _find_kind(name: str, plain: str, kind: str) -> str:
    """By the name that says its kind, or the plain one where the system has only one kind, and it is this one."""
    found = shutil.which(name, path=_path())
    if found is None and _kind(plain) == kind:
        found = shutil.which(plain, path=_path())
    if found is None:
        raise FirewallError(name, _MISSING)
    return found


def _find(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise FirewallError(name, _MISSING)
    return found


def _kind(plain: str) -> str | None:
    path = shutil.which(plain, path=_path())
    if path is None:
        return None
    return "nft" if "nf_tables" in _version(path) else "legacy"


@cache
def _version(path: str) -> str:
    return run(Command((path, "-V")))


def _path() -> str:
    # sudo and cron often leave the sbin folders out, where every distribution keeps these tools. An entry that is empty
    # or relative means the current folder, which may be anybody's.
    inherited = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join((*filter(os.path.isabs, inherited), "/usr/sbin", "/usr/bin", "/sbin", "/bin"))

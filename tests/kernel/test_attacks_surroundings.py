"""Strange machines, two commands at once, and names that try to write on the operator's terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.kernel.running import PolicyFile, command, events, is_installed, ruleset
from tests.lab.clients import send_datagrams
from tests.lab.servers import udp_counter
from tests.lab.service import READY, qfilter, serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

POLICY = """version: 1
default: {forward: drop}
queue: {backend: iptables-legacy}
rules:
  - {id: wanted, match: {dport: 9}, log: true, verdict: accept}
"""
CONTAINER = "net_admin,+net_raw,+setuid,+setgid,+setfcap"
NO_IP6TABLES = 'for each in /usr/sbin/ip6tables*; do mount --bind /dev/null "$each"; done'
WORKS = {
    "a strange language": "LANG=tr_TR.UTF-8 LC_ALL=xx_XX.bogus exec {}",
    "no folder for tools": "PATH= exec {}",
    "root of a user namespace": "exec unshare --user --map-root-user --net {}",
    "root of a container": f"exec setpriv --bounding-set=-all,+{CONTAINER} {{}}",
    "an empty /run": "mount -t tmpfs none /run && exec {}",
    "no nft": "mount --bind /dev/null /usr/sbin/nft && exec {}",
}
REFUSED = {
    "a user namespace in a network that is not its own": (
        "exec unshare --user --map-root-user {}",
        3,
        "NFQUEUE: expected root or CAP_NET_ADMIN",
    ),
    "a /run that cannot be written": (
        "mount --bind /run /run && mount -o remount,ro,bind /run && exec {}",
        4,
        "Read-only file system",
    ),
    "no ip6tables": (NO_IP6TABLES + "; exec {}", 4, "no tool can install kernel rules with target 'nfqueue'"),
    "a broken ip6tables-restore": (
        "mount --bind /usr/bin/false $(readlink -f /usr/sbin/ip6tables-legacy-restore) && exec {}",
        4,
        "no tool can install kernel rules with target 'nfqueue'",
    ),
}


USERS = {"root of a user namespace", "root of a container", "a user namespace in a network that is not its own"}
"""Those that make a user namespace, also where qfilter does to try its tools."""


def named(table: Mapping[str, tuple[object, ...]]) -> list[ParameterSet]:
    marks = pytest.mark.needs("user-namespaces")
    return [pytest.param(*row, id=name, marks=marks if name in USERS else ()) for name, row in table.items()]


@pytest.mark.parametrize("surroundings", named({name: (row,) for name, row in WORKS.items()}))
def test_it_serves_all_the_same(lab: Lab, policy_file: PolicyFile, surroundings: str) -> None:
    """`ip netns exec` made the mounts private: what is hidden is hidden from this process alone."""
    words = " ".join(qfilter("run", policy_file(POLICY), "--format", "none"))
    with lab.gateway.start("sh", "-c", surroundings.format(words)) as service:
        service.wait_for(READY, timeout=20.0)
        assert service.stop() == 0
    assert not is_installed(lab.gateway)


@pytest.mark.parametrize(("surroundings", "code", "says"), named(REFUSED))
def test_it_refuses_and_leaves_nothing(
    lab: Lab, policy_file: PolicyFile, surroundings: str, code: int, says: str
) -> None:
    before = ruleset(lab.gateway)
    words = " ".join(qfilter("run", policy_file(POLICY), "--format", "none"))
    done = lab.gateway.run("sh", "-c", surroundings.format(words), check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert ruleset(lab.gateway) == before
    assert lab.gateway.queues() == {}


def test_no_tool_comes_from_the_current_folder(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    path = policy_file(POLICY)
    for name in ("nft", "unshare", "iptables", "iptables-legacy-save", "iptables-legacy-restore"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/taken\n")
        (tmp_path / name).chmod(0o755)
    words = " ".join(qfilter("status", path))
    lab.gateway.run("sh", "-c", f"cd {tmp_path} && PATH=.::/usr/bin exec {words}", check=False)
    assert not (tmp_path / "taken").exists()


def test_two_commands_at_once(lab: Lab, policy_file: PolicyFile) -> None:
    """One of them wins, whichever, and what stands is whole or nothing."""
    path = policy_file(POLICY)
    for tool in ("iptables-legacy", "ip6tables-legacy"):  # the kernel never takes back a table that was looked at
        for table in ("filter", "mangle"):
            lab.gateway.run(tool, "-t", table, "-S")
    nothing = ruleset(lab.gateway)
    command(lab.gateway, "install", path)
    whole = ruleset(lab.gateway)
    for both in ((("install", path), ("remove",)), (("remove",), ("remove",)), (("install", path), ("install", path))):
        with lab.gateway.start(*qfilter(*both[0])) as first, lab.gateway.start(*qfilter(*both[1])) as second:
            codes = {first.wait(), second.wait()}
        assert codes in ({0}, {0, 4})
        assert ruleset(lab.gateway) in (nothing, whole)
    assert ruleset(lab.gateway) == whole
    command(lab.gateway, "remove")
    assert ruleset(lab.gateway) == nothing


@pytest.mark.parametrize(
    "name", ["\x1b[2J\x1b]0;x\x07", '"}\\\x85{"a', "\u202eevil\u200b"], ids=["escapes", "json", "bidi"]
)
@pytest.mark.parametrize("form", ["json", "line"])
def test_the_name_of_an_interface_writes_nothing_but_itself(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, name: str, form: str
) -> None:
    path = tmp_path / "events"
    lab.gateway.rename("lan", name)
    shown: list[str] = []
    options = ("--format", form, "--events", str(path))
    with (
        serving(lab.gateway, policy_file(POLICY), *options, on_line=shown.append) as service,
        udp_counter(lab.server, 9) as server,
    ):
        send_datagrams(lab.client, lab.server.ipv4, 9, 1)
        assert server.collect(1) == 1
        service.wait_for("wanted")
        assert service.stop() == 0
    assert all(line.isprintable() for line in shown)
    assert path.read_bytes().isascii()
    (verdict,) = events(path, "verdict")
    assert verdict["iifname"] == name
    if form == "json":
        assert json.loads(next(line for line in shown if '"type":"verdict"' in line)) == verdict


HOLD = """
import signal
from qfilter.queues.nfqueue import NfQueue
queue = NfQueue.open(0, failure={})
print("bound", flush=True)
signal.pause()
"""


def test_the_name_of_a_process_writes_nothing_but_itself(lab: Lab, policy_file: PolicyFile) -> None:
    """Whoever holds a queue chose its name; the message and `status` show it to root."""
    path = policy_file(POLICY)
    name = r"\x1b[2J\n\xfffine"
    script = f"open('/proc/self/comm', 'wb').write(b'{name}'); {HOLD}"
    with lab.gateway.start(f"{Path(qfilter()[0]).with_name('python')}", "-c", script) as taker:
        taker.wait_for("bound")
        for words in (("run", path), ("status",)):
            done = command(lab.gateway, *words, check=False)
            said = done.stdout + done.stderr
            assert f"process {taker.pid} ({name})" in said
            assert all(line.isprintable() for line in said.splitlines())

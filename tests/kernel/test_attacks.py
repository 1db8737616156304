"""Nothing gets through `qfilter run` because something else went wrong: its process, memory, disk, rules."""

from __future__ import annotations

import errno
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from qfilter.api import loads, serve
from qfilter.daemon import losses
from qfilter.events.outputs import Outputs
from qfilter.netlink.message import ERROR, REQUEST, Message, decode_error, decode_messages, encode_message
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER, VERDICT, Outcome, encode_verdict
from tests.kernel.running import PolicyFile, await_events, command, events, is_installed, pause
from tests.lab.clients import send_datagrams
from tests.lab.process import wait_until
from tests.lab.servers import UdpServer, udp_counter
from tests.lab.service import qfilter, serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

DENIED, WANTED = 9, 7
POLICY = """version: 1
default: {forward: accept}
queue: {backend: iptables-legacy}
rules:
  - {id: deny, match: {dport: 9}, log: true, verdict: drop}
"""
LET_PASS = POLICY + "on_failure: {no_listener: accept, error: accept}\n"


def send(lab: Lab, port: int, count: int) -> int:
    return send_datagrams(lab.client, lab.server.ipv4, port, count)


@contextmanager
def servers(lab: Lab) -> Iterator[tuple[UdpServer, UdpServer]]:
    """What counts the packets that the policy drops, and those that it lets through."""
    with udp_counter(lab.server, DENIED) as denied, udp_counter(lab.server, WANTED) as wanted:
        yield denied, wanted


@contextmanager
def flood(lab: Lab) -> Iterator[None]:
    """Packets that the policy drops, one after the other while the `with` lasts."""
    over = threading.Event()

    def go_on() -> None:
        with lab.client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not over.is_set():
                sender.sendto(b"denied", (lab.server.ipv4, DENIED))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_no_denied_packet_passes_once_it_says_that_it_serves_nor_while_it_is_killed(
    lab: Lab, policy_file: PolicyFile
) -> None:
    with servers(lab) as (denied, wanted), serving(lab.gateway, policy_file(POLICY)) as service, flood(lab):
        send(lab, WANTED, 5)
        service.kill()
        wait_until(lambda: not lab.gateway.queues(), "the kernel should let go of the queue")
        assert denied.collect(0) == 0
        assert wanted.collect(0) <= 5
    assert is_installed(lab.gateway)


@pytest.mark.parametrize("text", [POLICY, LET_PASS], ids=["closed", "bypassed"])
def test_stopped_it_holds_what_comes_and_decides_it_when_it_goes_on(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, text: str
) -> None:
    """A bypass is for a queue that nobody holds: a process that sleeps holds it."""
    path = tmp_path / "events"
    policy = policy_file(text.replace("queue: {", "queue: {length: 30, "))
    with servers(lab) as (denied, wanted), serving(lab.gateway, policy, "--events", str(path)) as service:
        pause(service)
        send(lab, DENIED, 20)
        send(lab, WANTED, 20)
        assert lab.gateway.queues()[0].waiting == 30
        assert (denied.collect(0), wanted.collect(0)) == (0, 0)
        service.send(signal.SIGCONT)
        assert (wanted.collect(10), denied.collect(0)) == (10, 0)
        service.stop()
        (stop,) = events(path, "stop")
        assert (stop["verdicts"]["accept"], stop["verdicts"]["drop"], stop["queues"][0]["queue_full"]) == (10, 20, 10)


def test_what_a_full_socket_lost_is_told_to_the_last_packet(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    """The last packets are lost, so that no later one shows a gap in the ids."""
    path = tmp_path / "events"
    policy = policy_file(POLICY.replace("queue: {", "queue: {socket_buffer: 8192, "))
    with servers(lab) as (_, wanted), serving(lab.gateway, policy, "--events", str(path)) as service:
        pause(service)
        send(lab, WANTED, 100)
        service.send(signal.SIGCONT)
        wait_until(lambda: lab.gateway.queues()[0].waiting == 0, "what was not lost should be decided")
        service.stop()
        (stop,) = events(path, "stop")
        assert 0 < stop["packets"] == wanted.collect(1) == stop["verdicts"]["accept"]
        assert stop["packets"] + stop["queues"][0]["socket_full"] == 100


def test_without_a_free_descriptor_it_goes_on(lab: Lab, policy_file: PolicyFile) -> None:
    with servers(lab) as (denied, wanted), serving(lab.gateway, policy_file(POLICY)) as service:
        soft, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(3):
            send(lab, DENIED, 50)
            so_far = len(wanted.received)
            send(lab, WANTED, 50)
            assert wanted.collect(so_far + 50) == so_far + 50
            service.wait_for('"verdict":"drop"')
            wait_until(lambda: lab.gateway.queues()[0].waiting == 0, "everything should be decided")
        assert denied.collect(0) == 0
        assert service.exit_code is None
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert not is_installed(lab.gateway)


def test_a_look_at_the_losses_that_fails_ends_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def fails() -> None:
        looks.append(len(looks))
        raise OSError(errno.EMFILE, "Too many open files")

    with servers(lab) as (denied, wanted), lab.gateway.entered(), serve(loads(POLICY), install=True) as service:
        monkeypatch.setattr(losses, "bound_queues", fails)
        monkeypatch.setattr(losses, "LOOK_EVERY", 0.0)
        send(lab, DENIED, 10)
        send(lab, WANTED, 10)
        assert (wanted.collect(10), denied.collect(0)) == (10, 0)
        wait_until(lambda: len(looks) > 1, "it should look again")
        assert not service.failed
        monkeypatch.undo()


HOG = """import qfilter
held = []
@qfilter.predicate("hog")
def hog(packet):
    while True:
        held.append(bytes(1000))
"""


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder that nobody else could write to, nor the folders above it: /tmp is no place for plugins."""
    with TemporaryDirectory(dir=Path.home()) as folder:
        yield Path(folder)


def test_without_memory_nothing_passes(lab: Lab, private: Path) -> None:
    """A condition takes all there is. Whether the service lives on or ends: what is denied does not come through."""
    text = POLICY.replace("rules:\n", "rules:\n  - {id: hog, match: {dport: 5, python: 'hog:hog'}, verdict: accept}\n")
    path = private / "policy.yaml"
    path.write_text(text)
    (private / "hog.py").write_text(HOG)
    with servers(lab) as (denied, _), udp_counter(lab.server, 5) as greedy:
        with lab.gateway.start(*qfilter("run", path)) as service:
            service.wait_for("qfilter: serving", timeout=20.0)
            size = int(Path("/proc", str(service.pid), "statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(service.pid, resource.RLIMIT_AS, (size + (2 << 20), resource.RLIM_INFINITY))
            send(lab, 5, 10)
            service.wait_for("MemoryError")
            send(lab, DENIED, 100)
            assert (greedy.collect(0), denied.collect(0)) == (0, 0)
            assert is_installed(lab.gateway)
        assert denied.collect(0) == 0
    command(lab.gateway, "remove")
    assert not is_installed(lab.gateway)


def test_a_full_disk_changes_no_verdict(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    """Events and captures go to a file system of one page; `ip netns exec` made its mounts private."""
    text = POLICY.replace("log: true", "log: true, capture: {file: denied.pcapng, max: 1 MiB}")
    full = tmp_path / "full"
    full.mkdir()
    run = " ".join(qfilter("run", policy_file(text), "--events", full / "events", "--captures", full))
    script = f"mount -t tmpfs -o size=4096 none {full} && exec {run}"
    with servers(lab) as (denied, wanted), lab.gateway.start("sh", "-c", script) as service:
        service.wait_for("qfilter: serving", timeout=20.0)
        send(lab, DENIED, 100)
        send(lab, WANTED, 100)
        assert (wanted.collect(100), denied.collect(0)) == (100, 0)
        assert service.stop() == 0
    assert "events or captured packets were lost: [Errno 28] No space left on device" in service.output


def test_a_drop_that_cannot_be_recorded_is_a_drop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where errors are to be accepted: recording is not judging."""

    def fails(_outputs: Outputs, what: object) -> None:
        if "rule" in str(what):
            raise MemoryError

    with servers(lab) as (denied, wanted), lab.gateway.entered():
        monkeypatch.setattr(Outputs, "put", fails)
        with serve(loads(LET_PASS), install=True) as service:
            send(lab, DENIED, 10)
            send(lab, WANTED, 10)
            assert (wanted.collect(10), denied.collect(0)) == (10, 0)
            assert service.queues[0].counters.failures == {}


def test_interfaces_that_change_under_traffic(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    """A rule by an interface's name follows the name; the packets of one that went away are dropped."""
    path = tmp_path / "events"
    text = POLICY.replace("dport: 9", "dport: 9, iifname: lan") + (
        "  - {id: elsewhere, match: {dport: 9}, log: true, verdict: drop}\n"
    )
    with servers(lab) as (denied, wanted), serving(lab.gateway, policy_file(text), "--events", str(path)) as service:
        send(lab, DENIED, 1)
        await_events(path, "verdict", 1)
        lab.gateway.rename("lan", "other")
        send(lab, DENIED, 1)
        first, second = await_events(path, "verdict", 2)
        assert [(each["iifname"], each["rule"]) for each in (first, second)] == [
            ("lan", "deny"),
            ("other", "elsewhere"),
        ]
        pause(service)
        send(lab, WANTED, 5)
        lab.gateway.ip("link delete other")
        service.send(signal.SIGCONT)
        wait_until(lambda: lab.gateway.queues()[0].waiting == 0, "the kernel should drop what came by the interface")
        assert (denied.collect(0), wanted.collect(0)) == (0, 0)


def test_nobody_else_can_give_a_verdict(lab: Lab, policy_file: PolicyFile) -> None:
    """Another root process answers for the queue, twice, while its holder sleeps."""
    with servers(lab) as (denied, _), serving(lab.gateway, policy_file(POLICY)) as service:
        pause(service)
        send(lab, DENIED, 1)
        with lab.gateway.new_socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as forger:
            for _ in range(2):
                body = encode_verdict(0, 1, Outcome.ACCEPT, None)
                forger.send(encode_message(Message(type=VERDICT, flags=REQUEST, body=body)))
                (answer,) = decode_messages(forger.recv(65_535))
                assert (answer.type, decode_error(answer)) == (ERROR, errno.EPERM)
        assert lab.gateway.queues()[0].waiting == 1
        service.send(signal.SIGCONT)
        service.wait_for('"rule":"deny"')
        assert denied.collect(0) == 0


FLUSH = (
    "iptables-legacy -F",
    "QFILTER-FWD has other rules than the policy's: 1 missing",
    ("missing rule: -j NFQUEUE --queue-num 0", "jumped to from nowhere"),
)
RESTORE = (
    "printf '*filter\\nCOMMIT\\n' | iptables-legacy-restore",
    "QFILTER-FWD is missing",
    ("filter QFILTER-FWD: missing",),
)
DOCKER = (
    "iptables-legacy -N DOCKER; iptables-legacy -I FORWARD -j DOCKER",
    "jumped to from FORWARD rule 2",
    ("jumped to from FORWARD rule 2",),
)


@pytest.mark.parametrize(("attack", "line", "says"), [FLUSH, RESTORE, DOCKER], ids=["flush", "restore", "docker"])
def test_rules_that_somebody_changed_are_told_and_put_back_on_request(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, attack: str, line: str, says: tuple[str, ...]
) -> None:
    path = tmp_path / "events"
    policy = policy_file(POLICY)
    with (
        servers(lab) as (denied, _),
        serving(lab.gateway, policy, "--compare", "0.1", "--events", str(path)) as service,
    ):
        lab.gateway.run("sh", "-c", attack)
        service.wait_for("qfilter: kernel rules differ: ", line, "SIGUSR1 puts them back")
        assert all(text in str(await_events(path, "rules", 1)[0]["differences"]) for text in says)
        status = command(lab.gateway, "status", policy, check=False)
        assert status.returncode == 1
        assert all(text in status.stdout for text in says)
        service.send(signal.SIGUSR1)
        service.wait_for("qfilter: kernel rules are as they should be")
        assert await_events(path, "rules", 2)[1]["differences"] == []
        send(lab, DENIED, 5)
        assert denied.collect(0) == 0
    assert not is_installed(lab.gateway)


def test_rules_that_cannot_be_read_are_told(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    """The tools disappear while it runs: the rules cannot be compared, stand, and stay when it ends."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for kind in ("legacy", "nft"):
        for family in ("iptables", "ip6tables"):
            for verb in ("save", "restore"):
                (tools / f"{family}-{kind}-{verb}").write_text(
                    f'#!/bin/sh\nexec /usr/sbin/{family}-{kind}-{verb} "$@"\n'
                )
                (tools / f"{family}-{kind}-{verb}").chmod(0o755)
    with servers(lab) as (denied, _):
        script = f"PATH={tools}:$PATH exec {' '.join(qfilter('run', policy_file(POLICY), '--compare', '0.1'))}"
        with lab.gateway.start("sh", "-c", script) as service:
            service.wait_for("qfilter: serving", timeout=20.0)
            for tool in tools.iterdir():
                tool.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
            service.wait_for("kernel rules differ: cannot be read", "broken")
            send(lab, DENIED, 5)
            assert service.stop() != 0
        assert denied.collect(0) == 0
    assert is_installed(lab.gateway)
    assert command(lab.gateway, "remove").returncode == 0
    assert not is_installed(lab.gateway)

"""A running service is asked and told: reload under traffic, live sets, and clients that misbehave."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.running import (
    POLICY,
    PORT,
    PolicyFile,
    ask,
    await_events,
    command,
    events,
    is_installed,
    lines_of_table,
    ruleset,
)
from tests.lab.clients import QUICK, Outcome, send_datagrams, tcp_connect, udp_ask
from tests.lab.process import wait_until
from tests.lab.servers import tcp_server, udp_counter, udp_echo
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft")

SETS = """version: 1
default: {forward: drop}
sets:
  blocked: {type: address, dynamic: true, timeout: 10m, size: 2, elements: [198.51.100.7]}
rules:
  - {id: blocked, match: {saddr: $blocked}, verdict: drop}
  - {id: wanted, match: {protocol: udp, dport: 9}, count: wanted, verdict: accept}
  - {id: answer, match: {protocol: udp, sport: 9}, verdict: accept}
"""


@pytest.fixture
def world(lab: Lab) -> Iterator[Lab]:
    """With an echo and a TCP server behind the gateway."""
    with udp_echo(lab.server, PORT), tcp_server(lab.server, 23, 25):
        yield lab


def stat(lab: Lab, name: str) -> list[str]:
    """A row of the table, as it is now."""
    return lines_of_table(command(lab.gateway, "stats").stdout)[name]


def socket_of(lab: Lab) -> Path:
    inode = lab.gateway.run("stat", "-Lc", "%i", "/proc/self/ns/net").stdout.strip()
    return Path(f"/run/qfilter-{inode}.sock")


def test_reload_takes_the_new_policy_and_keeps_what_was_counted(
    world: Lab, policy_file: PolicyFile, tmp_path: Path
) -> None:
    log = tmp_path / "events.json"
    with serving(world.gateway, policy_file(POLICY), "--events", str(log)) as service:
        before = ruleset(world.gateway)
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert tcp_connect(world.client, world.server.ipv4, 25, timeout=QUICK).outcome is Outcome.TIMED_OUT
        policy_file(POLICY.replace("dport: 23}, log: true, verdict: reject tcp-reset", "dport: 25}, verdict: accept"))
        done = command(world.gateway, "reload")
        assert done.stdout.splitlines() == ["rule refused changed", f"reloaded {tmp_path / 'policy.yaml'}"]
        assert tcp_connect(world.client, world.server.ipv4, 25, timeout=QUICK).outcome is Outcome.TIMED_OUT, (
            "its answers have no rule"
        )
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert stat(world, "wanted")[:2] == ["accept", "2"]
        assert int(stat(world, "refused")[1]) >= 1
        assert ruleset(world.gateway) != before, "nothing is rejected any more"
        (told,) = await_events(log, "reload", 1)
        assert service.stop() == 0
    assert {key: told[key] for key in ("outcome", "changes", "problems")} == {
        "outcome": "reloaded",
        "changes": ["rule refused changed"],
        "problems": [],
    }
    start, stop = events(log, "start")[0], events(log, "stop")[0]
    assert start["policy"] != told["policy"] == stop["policy"]
    assert not is_installed(world.gateway)


@pytest.mark.parametrize("family", [4, 6])
def test_a_policy_that_begins_to_reject_rejects(world: Lab, policy_file: PolicyFile, family: int) -> None:
    to = world.server.address(family)
    with serving(world.gateway, policy_file(POLICY.replace("verdict: reject tcp-reset", "verdict: drop"))) as service:
        assert tcp_connect(world.client, to, 23, timeout=QUICK).outcome is Outcome.TIMED_OUT
        policy_file(POLICY)
        command(world.gateway, "reload")
        assert tcp_connect(world.client, to, 23).outcome is Outcome.REFUSED
        assert command(world.gateway, "status", service.command.split()[-1]).returncode == 0


WRONG = {
    "it does not load": ("rules:", "rulez:", 1, "policy.yaml:3:1: error: unknown key 'rulez'"),
    "its own test fails": (
        "rules:",
        "tests: [{packet: {hook: forward}, expect: accept}]\nrules:",
        1,
        "policy.yaml:3:9: error: expected accept, got drop by default",
    ),
    "it does not compile": ("forward: drop", "prerouting: reject", 1, "prerouting: the kernel rejects only at input"),
    "another queue": (
        "rules:",
        "queue: {number: 3}\nrules:",
        1,
        "policy.yaml:3:17: error: queue.number 3: the service",
    ),
    "no hook in common": ("forward: drop", "input: drop", 1, "hooks input: the service runs with forward"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_policy_changes_nothing(world: Lab, policy_file: PolicyFile, tmp_path: Path, what: str) -> None:
    old, new, code, said = WRONG[what]
    log = tmp_path / "events.json"
    with serving(world.gateway, policy_file(POLICY), "--events", str(log)):
        before = ruleset(world.gateway)
        policy_file(POLICY.replace(old, new))
        done = command(world.gateway, "reload", check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert ruleset(world.gateway) == before
        assert ask(world.client, world.server) is Outcome.ANSWERED
        (told,) = await_events(log, "reload", 1)
        start, verdict = events(log, "start")[0], await_events(log, "verdict", 1)[0]
    assert (told["outcome"], told["policy"]) == ("refused", start["policy"])
    assert said.partition("error: ")[2] in told["problems"][0] or said in told["problems"][0]
    assert verdict["policy"] == start["policy"]


def test_another_file_can_be_put_in_force(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SETS)
    with serving(world.gateway, policy_file(POLICY)):
        done = command(world.gateway, "reload", other)
        assert done.stdout.splitlines()[-1] == f"reloaded {other}"
        status = json.loads(command(world.gateway, "status", "--format", "json").stdout)
        assert (status["service"]["in_force"]["file"], status["service"]["engine"]) == (str(other), "native")
        missing = command(world.gateway, "reload", tmp_path / "none.yaml", check=False)
        assert (missing.returncode, "none.yaml" in missing.stderr) == (1, True)
        assert command(world.gateway, "status").stdout.startswith(f"in force: {other}: queue 0, ")


def test_reload_while_packets_flow_loses_none_and_mixes_none(world: Lab, policy_file: PolicyFile) -> None:
    """Both policies accept and count under a name of their own; each packet is in exactly one of the two counts."""
    texts = [
        f"version: 1\ndefault: {{forward: drop}}\nrules:\n"
        f"  - {{id: first, match: {{protocol: udp, dport: 99}}, count: {name}-first}}\n"
        f"  - {{id: second, match: {{protocol: udp, dport: 99{payload}}}, count: {name}-second, verdict: accept}}\n"
        f"  - {{id: keep, hook: forward, match: {{dport: 1}}, count: {other}-first, verdict: drop}}\n"
        f"  - {{id: keep-2, hook: forward, match: {{dport: 2}}, count: {other}-second, verdict: drop}}\n"
        for name, other, payload in (("a", "b", ""), ("b", "a", ", payload: {length: 18}"))
    ]
    sent = 3_000
    with (
        udp_counter(world.server, 99) as server,
        serving(world.gateway, policy_file(f"{texts[0]}queue: {{length: 8192}}\n")),
    ):
        flood = threading.Thread(target=send_datagrams, args=(world.client, world.server.ipv4, 99, sent))
        flood.start()
        reloads = 0
        while flood.is_alive() or reloads < 4:
            reloads += 1
            policy_file(f"{texts[reloads % 2]}queue: {{length: 8192}}\n")
            command(world.gateway, "reload")
        flood.join()
        assert server.collect(sent) == sent
        counted = json.loads(command(world.gateway, "stats", "--format", "json").stdout)["report"]
    counters = {name: tally["packets"] for name, tally in counted["counters"].items()}
    assert counters["a-first"] == counters["a-second"]
    assert counters["b-first"] == counters["b-second"]
    assert counters["a-first"] + counters["b-first"] == sent


def test_hooks_come_and_go(world: Lab, policy_file: PolicyFile) -> None:
    both = POLICY.replace("forward: drop", "forward: drop, input: drop")
    icmp = "  - {id: neighbours, match: {icmpv6.type: 133-137}, verdict: accept}\n"
    with serving(world.gateway, policy_file(POLICY + icmp)) as service:
        assert world.client.run("ping", "-c1", "-W2", world.gateway.ipv4).returncode == 0
        policy_file(both + icmp)
        assert "default input drop, was nothing" in command(world.gateway, "reload").stdout
        assert world.client.run("ping", "-c1", "-W1", world.gateway.ipv4, check=False).returncode == 1
        assert ask(world.client, world.server) is Outcome.ANSWERED
        policy_file(POLICY + icmp)
        command(world.gateway, "reload")
        assert world.client.run("ping", "-c1", "-W2", world.gateway.ipv4).returncode == 0
        assert ask(world.client, world.server) is Outcome.ANSWERED
        service.send(signal.SIGUSR1)
        service.wait_for("kernel rules are as they should be")
    assert not is_installed(world.gateway)


def test_sighup_reloads_and_says_so(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log = tmp_path / "events.json"
    with serving(world.gateway, policy_file(POLICY), "--events", str(log)) as service:
        policy_file(POLICY.replace("dport: 9}", "dport: 10}"))
        service.send(signal.SIGHUP)
        service.wait_for(f"qfilter: reloaded {tmp_path / 'policy.yaml'}")
        assert ask_quick(world) is Outcome.TIMED_OUT
        policy_file("version: 2\n")
        service.send(signal.SIGHUP)
        service.wait_for("policy.yaml refused: the policy before it stays in force")
        service.wait_for("policy.yaml:1:10: error: the number '2': expected 1")
        assert ask_quick(world) is Outcome.TIMED_OUT
        policy_file(POLICY)
        service.send(signal.SIGHUP)
        await_events(log, "reload", 3)
        assert ask(world.client, world.server) is Outcome.ANSWERED
    assert [event["outcome"] for event in events(log, "reload")] == ["reloaded", "refused", "reloaded"]


def ask_quick(world: Lab) -> Outcome:
    return udp_ask(world.client, world.server.ipv4, PORT, timeout=QUICK).outcome


def test_an_element_that_is_added_stops_the_next_packet(world: Lab, policy_file: PolicyFile) -> None:
    client = world.client.ipv4
    with serving(world.gateway, policy_file(SETS)):
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert command(world.gateway, "set", "add", "blocked", client, "--timeout", "1h").stdout == "1 added\n"
        assert ask_quick(world) is Outcome.TIMED_OUT
        shown = command(world.gateway, "set", "list", "blocked").stdout.splitlines()
        assert (re.sub(r"(59m\d+s|1h)$", "1h", shown[0]), shown[1:]) == (
            f"{client}  for 1h",
            ["198.51.100.7  in the policy"],
        )
        assert command(world.gateway, "set", "list").stdout == ("blocked  address, 1 in the policy, 1 of 2 added\n")
        policy_file(SETS.replace("10m", "20m"))
        command(world.gateway, "reload")
        assert ask_quick(world) is Outcome.TIMED_OUT, "a reload keeps what was added"
        assert command(world.gateway, "set", "delete", "blocked", client).stdout == "1 deleted\n"
        assert ask(world.client, world.server) is Outcome.ANSWERED
        full = command(world.gateway, "set", "add", "blocked", "::1", "::2", "::3", check=False)
        assert (full.returncode, full.stdout, full.stderr) == (1, "2 added\n", "1 refused: the set is full\n")
        absent = command(world.gateway, "set", "delete", "blocked", "198.51.100.7", check=False)
        assert (absent.returncode, absent.stdout) == (1, "0 deleted\n")
        assert absent.stderr == "198.51.100.7: not among the elements that were added\n"
        assert command(world.gateway, "set", "flush", "blocked").stdout == "2 deleted\n"


def test_a_flow_outlives_a_reload_only_where_the_new_policy_would_decide_it_alike(
    lab: Lab, policy_file: PolicyFile
) -> None:
    """No rule lets in what the server sends: only the flow that the client began does."""
    text = """version: 1
default: {forward: drop}
rules:
  - {id: bad, match: {saddr: 203.0.113.9}, verdict: drop}
  - {id: mine, match: {iifname: lan, dport: 7777}, verdict: accept, scope: flow}
"""
    with (
        lab.client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        lab.server.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        serving(lab.gateway, policy_file(text)),
    ):
        server.bind((lab.server.ipv4, 7777))
        client.connect((lab.server.ipv4, 7777))
        client.send(b"first")
        server.settimeout(5.0)
        server.recv(16)
        assert answers(server, client), "the flow"
        policy_file("# a line more\n" + text + "  - {id: more, match: {dport: 7}, verdict: drop}\n")
        command(lab.gateway, "reload")
        assert answers(server, client), "nothing before the flow's rule means otherwise"
        assert stat(lab, "mine")[-1].endswith("policy.yaml:6:5")
        policy_file(text.replace("203.0.113.9", "203.0.113.10"))
        command(lab.gateway, "reload")
        assert not answers(server, client), "the flow is forgotten"
        client.send(b"again")
        server.recv(16)
        assert answers(server, client), "the client began another"


def answers(server: socket.socket, client: socket.socket) -> bool:
    """Whether the client gets what the server sends now."""
    server.sendto(b"answer", client.getsockname())
    client.settimeout(QUICK)
    try:
        return client.recv(16) == b"answer"
    except TimeoutError:
        return False


def test_the_socket_is_the_owners_and_goes_with_the_service(lab: Lab, policy_file: PolicyFile) -> None:
    place = socket_of(lab)
    with serving(lab.gateway, policy_file(POLICY)):
        assert place.stat().st_mode & 0o7777 == 0o600
    assert not place.exists()
    done = command(lab.gateway, "stats", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {place}: no service answers there: expected a running `qfilter run`\n",
    )
    assert f"{place}: no service answers there" in command(lab.gateway, "status").stdout


def test_a_socket_that_a_dead_process_left_is_replaced(lab: Lab, policy_file: PolicyFile) -> None:
    place, policy = socket_of(lab), policy_file(POLICY)
    with serving(lab.gateway, policy) as service:
        service.kill()
    assert place.exists()
    assert command(lab.gateway, "reload", check=False).returncode == 1
    with serving(lab.gateway, policy):
        assert command(lab.gateway, "reload").returncode == 0
    assert not place.exists()


def test_two_services_in_one_namespace_need_two_places(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    first = policy_file(POLICY)
    second = tmp_path / "second.yaml"
    second.write_text(f"{POLICY}queue: {{number: 7}}\n")
    tmp_path.chmod(0o755)
    place = tmp_path / "second.sock"
    with serving(lab.gateway, first, "--no-install") as service:
        done = command(lab.gateway, "run", second, "--no-install", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            f"process {service.pid} serves there already: end it, or take another place with --control" in done.stderr
        )
        assert list(lab.gateway.queues()) == [0]
        with serving(lab.gateway, second, "--no-install", "--control", str(place)):
            done = command(lab.gateway, "status", "--control", place)
            assert done.stdout.startswith(f"in force: {second}: queue 7, ")


def test_clients_that_hang_delay_neither_verdicts_nor_each_other(world: Lab, policy_file: PolicyFile) -> None:
    place = socket_of(world)
    with serving(world.gateway, policy_file(SETS)):
        hanging = []
        for number in range(100):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            hanging.append(client)
            client.connect(str(place))
            client.send((b"", b'{"version"', b"\xff" * 100)[number % 3])
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert stat(world, "wanted")[:2] == ["accept", "1"]
        assert command(world.gateway, "set", "add", "blocked", world.client.ipv4).stdout == "1 added\n"
        assert ask_quick(world) is Outcome.TIMED_OUT
        for client in hanging:
            client.close()


def test_another_user_cannot_even_connect(lab: Lab, policy_file: PolicyFile) -> None:
    """connect() to a unix socket needs the right to write to it (unix(7))."""
    place = str(socket_of(lab))
    with serving(lab.gateway, policy_file(POLICY)):
        assert lab.gateway.run("test", "-w", place).returncode == 0
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
        assert lab.gateway.run(*nobody, "test", "-w", place, check=False).returncode == 1


def test_a_service_that_is_stopped_is_said_to_be(lab: Lab, policy_file: PolicyFile) -> None:
    with serving(lab.gateway, policy_file(POLICY)) as service:
        service.send(signal.SIGSTOP)
        done = command(lab.gateway, "status", check=False)
        assert "the service does not answer: is it stopped, or busy?" in done.stdout
        assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "differs: the service does not answer")
        service.send(signal.SIGCONT)
        wait_until(lambda: command(lab.gateway, "status", check=False).returncode == 0, "it should answer again")

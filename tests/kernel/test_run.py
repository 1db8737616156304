"""`qfilter run` between a real client and a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qfilter.daemon import EngineName
from qfilter.queues.captures import read_capture
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
    pause,
    ruleset,
)
from tests.lab.clients import QUICK, Outcome, ping, send_datagrams, tcp_connect, udp_ask
from tests.lab.holder import QueueHolder
from tests.lab.probes import State, probe
from tests.lab.process import LabError, wait_until
from tests.lab.servers import tcp_server, udp_counter, udp_echo
from tests.lab.service import qfilter, serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft")

families = pytest.mark.parametrize("family", [4, 6])
engines = pytest.mark.parametrize("engine", EngineName)


@pytest.fixture
def world(lab: Lab) -> Iterator[Lab]:
    """With what POLICY is about behind the gateway."""
    with udp_echo(lab.server, PORT), tcp_server(lab.server, 23, 25):
        yield lab


@engines
@families
def test_every_packet_gets_its_verdict_and_says_why(
    world: Lab, policy_file: PolicyFile, tmp_path: Path, family: int, engine: EngineName
) -> None:
    before, log = ruleset(world.gateway), tmp_path / "events.json"
    to = world.server.address(family)
    with serving(world.gateway, policy_file(POLICY), "--events", str(log), "--engine", engine) as service:
        assert is_installed(world.gateway)
        assert list(world.gateway.queues()) == [0]
        assert ask(world.client, world.server, family) is Outcome.ANSWERED
        assert tcp_connect(world.client, to, 23).outcome is Outcome.REFUSED
        assert tcp_connect(world.client, to, 25, timeout=QUICK).outcome is Outcome.TIMED_OUT
        wanted, refused = await_events(log, "verdict", 2)
        assert service.stop() == 0
    assert {key: wanted[key] for key in ("hook", "iifname", "oifname", "daddr", "dport", "protocol")} == {
        "hook": "forward",
        "iifname": "lan",
        "oifname": "wan",
        "daddr": to,
        "dport": PORT,
        "protocol": "udp",
    }
    place = f"{tmp_path / 'policy.yaml'}"
    assert [(event["verdict"], event["reason"], event["rule"], event["at"]) for event in (wanted, refused)] == [
        ("accept", "rule", "wanted", f"{place}:4:5"),
        ("reject tcp-reset", "rule", "refused", f"{place}:5:5"),
    ]
    (stop,) = events(log, "stop")
    assert stop["verdicts"]["accept"] == 2
    assert stop["verdicts"]["reject"] == 1
    assert stop["policy"] == wanted["policy"] == events(log, "start")[0]["policy"]
    table = lines_of_table(service.output)
    assert (table["wanted"][:2], table["refused"][:3], table["answer"][:2]) == (
        ["accept", "1"],
        ["reject", "tcp-reset", "1"],
        ["accept", "1"],
    )
    assert int(table["default forward"][1]) == stop["verdicts"]["drop"] >= 1
    assert ruleset(world.gateway) == before
    assert world.gateway.queues() == {}


def test_exactly_as_many_are_judged_as_were_sent(world: Lab, policy_file: PolicyFile) -> None:
    silent = POLICY.replace(", log: true", "")
    with udp_counter(world.server, 99) as server:
        text = silent.replace("dport: 9}", "dport: 99}")
        with serving(world.gateway, policy_file(text)) as service:
            sent = send_datagrams(world.client, world.server.ipv4, 99, 300)
            assert server.collect(sent) == sent
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", str(sent)]


def test_systemd_is_told_when_the_rules_stand(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    place = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(place))
        systemd.settimeout(20)
        with serving(lab.gateway, policy_file(POLICY), extra_environment={"NOTIFY_SOCKET": str(place)}):
            assert systemd.recv(100) == b"READY=1"
            assert is_installed(lab.gateway)


def test_a_systemd_that_is_gone_is_no_reason_to_end(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    gone = {"NOTIFY_SOCKET": str(tmp_path / "gone")}
    with serving(lab.gateway, policy_file(POLICY), extra_environment=gone) as service:
        service.wait_for("qfilter: systemd was not told that this serves: [Errno 2] No such file", timeout=20)
        assert is_installed(lab.gateway)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(lab: Lab, policy_file: PolicyFile, number: signal.Signals) -> None:
    with serving(lab.gateway, policy_file(POLICY)) as service:
        assert service.stop(number) == 0
    assert "Traceback" not in service.output
    assert "all packets" in lines_of_table(service.output)
    assert not is_installed(lab.gateway)


def test_a_second_ctrl_c_while_it_stops_changes_nothing(lab: Lab, policy_file: PolicyFile) -> None:
    with serving(lab.gateway, policy_file(POLICY)) as service:
        for _ in range(3):
            service.send(signal.SIGINT)
        assert service.wait() == 0
    assert not is_installed(lab.gateway)
    assert lab.gateway.queues() == {}


def test_ctrl_c_reaches_no_tool_that_removes_the_rules(lab: Lab, policy_file: PolicyFile) -> None:
    with serving(lab.gateway, policy_file(POLICY)) as service:
        for _ in range(20):
            os.killpg(service.pid, signal.SIGINT)
        assert service.wait() == 0
    assert not is_installed(lab.gateway)


def test_sighup_goes_on_in_a_new_file(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log, old = tmp_path / "events.json", tmp_path / "events.json.1"
    with serving(world.gateway, policy_file(POLICY), "--events", str(log)) as service:
        assert ask(world.client, world.server) is Outcome.ANSWERED
        await_events(log, "verdict", 1)
        log.rename(old)
        service.send(signal.SIGHUP)
        wait_until(log.exists, "the events file should be opened anew")
        assert ask(world.client, world.server) is Outcome.ANSWERED
        await_events(log, "verdict", 1)
        await_events(log, "reload", 1)
    assert [event["type"] for event in events(old)] == ["start", "verdict"]
    assert sorted(event["type"] for event in events(log)) == ["reload", "stop", "verdict"]


def test_events_go_to_standard_output_too(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log = tmp_path / "events.json"
    with serving(world.gateway, policy_file(POLICY), "--events", str(log)) as service:
        assert ask(world.client, world.server) is Outcome.ANSWERED
        await_events(log, "verdict", 1)
    printed = [json.loads(line) for line in service.lines if line.startswith("{")]
    assert printed == events(log)
    assert [event["type"] for event in printed] == ["start", "verdict", "stop"]


@pytest.mark.parametrize(("form", "shown"), [("line", True), ("none", False)])
def test_the_forms_of_standard_output(world: Lab, policy_file: PolicyFile, form: str, shown: bool) -> None:
    with serving(world.gateway, policy_file(POLICY), "--format", form) as service:
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert any("ACCEPT  forward" in line and "wanted at" in line for line in service.lines) is shown
    assert not any(line.startswith("{") for line in service.lines)


def test_a_reader_that_stalls_delays_no_verdict_and_what_is_lost_is_said(world: Lab, policy_file: PolicyFile) -> None:
    with serving(world.gateway, policy_file(POLICY), "--events", "/dev/full") as service:
        for _ in range(3):
            assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert "events or captured packets were lost: [Errno 28] No space left on device" in service.output
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", "3"]


def test_standard_output_that_nobody_reads(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log, pipe = tmp_path / "events.json", tmp_path / "pipe"
    os.mkfifo(pipe)
    words = " ".join(qfilter("run", policy_file(POLICY), "--events", log))
    # The pipe is opened for reading by nobody but its own writer: it fills and stays full.
    with world.gateway.start("bash", "-c", f"exec 9<>{pipe}; exec {words} >{pipe}") as service:
        service.wait_for("qfilter: serving", timeout=20.0)
        sent = send_datagrams(world.client, world.server.ipv4, PORT, 400, source_ports=range(4000, 4010))
        assert len(await_events(log, "verdict", sent)) == sent
        assert service.stop() == 0
    assert "events or captured packets were lost: [Errno 125] closed before it could be written" in service.output
    assert events(log, "stop")[0]["verdicts"]["accept"] >= sent


def test_standard_output_that_is_closed(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log = tmp_path / "events.json"
    words = " ".join(qfilter("run", policy_file(POLICY), "--events", log))
    with world.gateway.start("bash", "-c", f"{words} | true; exit ${{PIPESTATUS[0]}}") as service:
        service.wait_for("qfilter: serving", timeout=20.0)
        assert ask(world.client, world.server) is Outcome.ANSWERED
        await_events(log, "verdict", 1)
        (holder,) = world.gateway.queues().values()
        os.kill(holder.port_id, signal.SIGTERM)
        assert service.wait() == 0
    assert "were lost: [Errno 32] Broken pipe" in service.output
    assert not is_installed(world.gateway)


def test_captured_packets_can_be_read_back(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    text = POLICY.replace("log: true, verdict: accept", "capture: {file: seen.pcapng, max: 1 MiB}, verdict: accept")
    with serving(world.gateway, policy_file(text), "--captures", str(tmp_path)):
        assert ask(world.client, world.server) is Outcome.ANSWERED
    (packet,) = read_capture(tmp_path / "seen.pcapng")
    assert packet.data is not None
    assert (packet.interface, packet.data[9], packet.wire_length) == ("lan", 17, len(packet.data))


def test_a_taken_queue_names_its_holder(lab: Lab, policy_file: PolicyFile) -> None:
    before = ruleset(lab.gateway)
    with QueueHolder(lab.gateway, 0):
        done = command(lab.gateway, "run", policy_file(POLICY), check=False)
    assert done.returncode == 4
    assert f"error: bind queue 0: already held by process {os.getpid()} (" in done.stderr
    assert ruleset(lab.gateway) == before


def test_the_second_run_is_told_of_the_first(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY)
    with serving(lab.gateway, policy) as service:
        for words in (("run", policy), ("install", policy)):
            done = command(lab.gateway, *words, check=False)
            assert done.returncode == 4
            assert f"process {service.pid} looks after the kernel rules of this network namespace" in done.stderr
        assert is_installed(lab.gateway)
    assert not is_installed(lab.gateway)


def test_remove_works_while_a_run_serves_and_sigusr1_takes_it_back(lab: Lab, policy_file: PolicyFile) -> None:
    with serving(lab.gateway, policy_file(POLICY)) as service:
        done = command(lab.gateway, "remove")
        assert f"process {service.pid} still serves" in done.stderr
        assert not is_installed(lab.gateway)
        service.send(signal.SIGUSR1)
        service.wait_for("kernel rules are as they should be")
        assert is_installed(lab.gateway)


def test_a_policy_whose_test_fails_installs_nothing(lab: Lab, policy_file: PolicyFile) -> None:
    before = ruleset(lab.gateway)
    text = f"{POLICY}tests:\n  - {{packet: {{hook: forward, protocol: udp, dport: 9}}, expect: drop}}\n"
    done = command(lab.gateway, "run", policy_file(text), check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "policy.yaml:8:5: error: expected drop, got accept by wanted" in done.stderr
    assert ruleset(lab.gateway) == before
    assert lab.gateway.queues() == {}


def test_when_the_rules_cannot_be_installed_the_queue_is_released(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path
) -> None:
    before = ruleset(lab.gateway)
    broken = tmp_path / "bin"
    broken.mkdir()
    tool = broken / "ip6tables-nft-restore"
    # In the throw-away namespace of the probe it works.
    tool.write_text(
        "#!/bin/sh\ncase $XTABLES_LOCKFILE in '') echo 'no rule today' >&2; exit 1;; esac\n"
        'exec /usr/sbin/ip6tables-nft-restore "$@"\n'
    )
    tool.chmod(0o755)
    path = f"{broken}:{os.environ['PATH']}:/usr/sbin:/sbin"
    words = qfilter("run", policy_file(POLICY), "--backend", "iptables-nft", "--events", tmp_path / "events.json")
    with lab.gateway.start(*words, extra_environment={"PATH": path}) as service:
        assert service.wait() == 4
    assert "no rule today" in service.output
    assert "put back as it was: iptables-nft ipv4" in service.output
    assert [event["type"] for event in events(tmp_path / "events.json")] == ["start", "stop"]
    assert ruleset(lab.gateway) == before
    assert lab.gateway.queues() == {}


def test_after_kill_9_everything_is_dropped_until_somebody_acts(world: Lab, policy_file: PolicyFile) -> None:
    before, policy = ruleset(world.gateway), policy_file(POLICY)
    with serving(world.gateway, policy) as service:
        assert ask(world.client, world.server) is Outcome.ANSWERED
        service.kill()
        assert is_installed(world.gateway)
        assert udp_ask(world.client, world.server.ipv4, PORT, timeout=QUICK).outcome is Outcome.TIMED_OUT
    with serving(world.gateway, policy) as service:
        assert ask(world.client, world.server) is Outcome.ANSWERED
        service.kill()
    assert is_installed(world.gateway)
    done = command(world.gateway, "remove")
    assert done.stdout.endswith("removed\n")
    assert ruleset(world.gateway) == before
    assert ask(world.client, world.server) is Outcome.ANSWERED
    assert command(world.gateway, "remove").stdout == "nothing of qfilter's is installed\n"


def test_keep_rules_keeps_them_and_drops(world: Lab, policy_file: PolicyFile) -> None:
    with serving(world.gateway, policy_file(POLICY), "--keep-rules") as service:
        assert service.stop() == 0
    assert is_installed(world.gateway)
    assert world.gateway.queues() == {}
    assert udp_ask(world.client, world.server.ipv4, PORT, timeout=QUICK).outcome is Outcome.TIMED_OUT


def test_a_policy_that_lets_pass_without_listener(world: Lab, policy_file: PolicyFile) -> None:
    text = f"{POLICY}on_failure: {{no_listener: accept}}\n"
    with serving(world.gateway, policy_file(text), "--keep-rules") as service:
        assert "accepts on no_listener" in service.wait_for("qfilter: serving")
        assert tcp_connect(world.client, world.server.ipv4, 25, timeout=QUICK).outcome is Outcome.TIMED_OUT
        assert service.stop() == 0
    assert tcp_connect(world.client, world.server.ipv4, 25).outcome is Outcome.CONNECTED


def test_rules_of_ones_own(world: Lab, policy_file: PolicyFile) -> None:
    world.gateway.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "7")
    before = ruleset(world.gateway)
    with serving(world.gateway, policy_file(f"{POLICY}queue: {{number: 7}}\n"), "--no-install") as service:
        assert ruleset(world.gateway) == before
        assert "kernel rules of your own" in service.wait_for("qfilter: serving")
        service.wait_for("this policy rejects: without the chains of `qfilter install`, what it rejects is dropped")
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert tcp_connect(world.client, world.server.ipv4, 25).outcome is Outcome.CONNECTED
        assert service.stop() == 0
    assert ruleset(world.gateway) == before
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", "1"]


def test_rules_of_ones_own_for_a_policy_that_rejects_nothing(lab: Lab, policy_file: PolicyFile) -> None:
    text = POLICY.replace("reject tcp-reset", "drop")
    with serving(lab.gateway, policy_file(text), "--no-install") as service:
        assert service.stop() == 0
    assert "rejects" not in service.output


@engines
def test_what_the_queue_itself_decides_is_an_event(
    world: Lab, policy_file: PolicyFile, tmp_path: Path, engine: EngineName
) -> None:
    """Rejects need qfilter's own chains: a rule of one's own sends the packet round, and its mark then ends it."""
    world.gateway.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE")
    path = tmp_path / "events"
    text = POLICY.replace("verdict: accept", "verdict: reject")
    with serving(world.gateway, policy_file(text), "--no-install", "--events", str(path), "--engine", engine):
        assert ask(world.client, world.server) is Outcome.TIMED_OUT
        (failure,) = await_events(path, "failure", 1)
    assert (failure["verdict"], failure["reason"], failure["rule"]) == ("drop", "error", None)
    assert failure["detail"] == "mark 0x20000000: bits of 0xf0000000 were set on arrival"
    assert (failure["hook"], failure["iifname"], failure["daddr"]) == ("forward", "lan", world.server.ipv4)


def test_install_then_run_without_installing(world: Lab, policy_file: PolicyFile) -> None:
    before, policy = ruleset(world.gateway), policy_file(POLICY)
    assert "installed by iptables-" in command(world.gateway, "install", policy).stdout
    assert command(world.gateway, "install", policy).stdout == "already installed: nothing to do\n"
    assert command(world.gateway, "status", policy, check=False).returncode == 1  # nobody holds the queue
    with serving(world.gateway, policy, "--no-install"):
        assert ask(world.client, world.server) is Outcome.ANSWERED
        status = json.loads(command(world.gateway, "status", policy, "--format", "json").stdout)
        assert [queue["packets"] for queue in status["queues"]] == [2]
        assert status["differences"] == []
    assert is_installed(world.gateway)
    command(world.gateway, "remove")
    done = command(world.gateway, "status", policy, check=False)
    assert (done.returncode, "differs: " in done.stdout) == (1, True)
    assert ruleset(world.gateway) == before


def test_print_shows_and_does_nothing(lab: Lab, policy_file: PolicyFile) -> None:
    before, policy = ruleset(lab.gateway), policy_file(POLICY)
    done = command(lab.gateway, "install", policy, "--print", "--backend", "iptables-nft")
    assert ruleset(lab.gateway) == before
    lab.gateway.run("bash", "-c", done.stdout)
    assert command(lab.gateway, "install", policy, "--backend", "iptables-nft").stdout.startswith("already installed")
    command(lab.gateway, "remove")


@engines
def test_several_queues_share_the_packets(world: Lab, policy_file: PolicyFile, engine: EngineName) -> None:
    sources = world.client.more_addresses(4, 40)
    with udp_counter(world.server, 99) as server:
        text = f"{POLICY}queue: {{number: 0-3}}\n".replace("dport: 9}, log: true", "dport: 99}")
        with serving(world.gateway, policy_file(text), "--engine", engine) as service:
            sent = send_datagrams(world.client, world.server.ipv4, 99, 200, sources=sources)
            assert server.collect(sent) == sent
            packets = [row.last_id for row in world.gateway.queues().values()]
    assert (len(packets), sum(packets)) == (4, sent)
    assert sorted(packets)[-2] > 0
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", str(sent)]


@families
@pytest.mark.parametrize("hook", ["prerouting", "postrouting"])
def test_hooks_around_routing(world: Lab, policy_file: PolicyFile, tmp_path: Path, hook: str, family: int) -> None:
    text = POLICY.replace("forward: drop", f"{hook}: drop").replace("  - {id: refused", "  #")
    neighbours = "  - {id: neighbours, match: {icmpv6.type: 133-137}, verdict: accept}\n"
    log = tmp_path / "events.json"
    with serving(world.gateway, policy_file(text + neighbours), "--events", str(log)):
        assert ask(world.client, world.server, family) is Outcome.ANSWERED
        assert ping(world.client, world.server.address(family), timeout=QUICK).outcome is Outcome.TIMED_OUT
        (event,) = await_events(log, "verdict", 1)
    assert (event["hook"], event["iifname"], event["oifname"]) == {
        "prerouting": ("prerouting", "lan", None),
        "postrouting": ("postrouting", None, "wan"),
    }[hook]


@pytest.mark.parametrize("backend", ["iptables-legacy", "iptables-nft", "nft"])
def test_a_backend_can_be_forced(
    world: Lab, policy_file: PolicyFile, require: Callable[..., None], backend: str
) -> None:
    require({"nft": "nft-queue"}.get(backend, backend))
    for tool in ("iptables-legacy", "ip6tables-legacy"):
        world.gateway.run(tool, "-S")  # a table of the legacy kind is there for good once somebody asked for it
    before = ruleset(world.gateway)
    with serving(world.gateway, policy_file(POLICY), "--backend", backend) as service:
        assert f"kernel rules by {backend}" in service.wait_for("qfilter: serving")
        for family in (4, 6):
            assert ask(world.client, world.server, family) is Outcome.ANSWERED
    assert ruleset(world.gateway) == before


@pytest.mark.skipif(probe("nft-queue").state is State.WORKS, reason="nft can queue here")
def test_a_backend_that_cannot_do_it(lab: Lab, policy_file: PolicyFile) -> None:
    done = command(lab.gateway, "run", policy_file(POLICY), "--backend", "nft", check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("error: no tool can install kernel rules with target 'nfqueue': nft: ")
    assert lab.gateway.queues() == {}


def test_target_queue(world: Lab, policy_file: PolicyFile, require: Callable[..., None]) -> None:
    require("iptables-legacy-queue")
    with serving(
        world.gateway, policy_file(f"{POLICY}queue: {{target: queue}}\n"), "--backend", "iptables-legacy"
    ) as service:
        assert "-j QUEUE" in world.gateway.run("iptables-legacy-save").stdout
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", "1"]


def test_a_queue_that_is_full_is_counted(world: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    log = tmp_path / "events.json"
    text = f"{POLICY}queue: {{length: 1}}\n".replace(", log: true", "")
    with serving(world.gateway, policy_file(text), "--events", str(log)) as service:
        pause(service)
        send_datagrams(world.client, world.server.ipv4, PORT, 50)
        wait_until(lambda: world.gateway.queues()[0].dropped_full == 49, "49 of 50 should not fit in the queue")
        service.send(signal.SIGCONT)
        (queue,) = await_events(log, "queue", 1)
        assert service.stop() == 0
    assert (queue["queue"], queue["family"], queue["queue_full"]) == (0, None, 49)
    assert events(log, "stop")[0]["queues"][0]["queue_full"] == 49
    assert "queue 0: queue_full 49" in service.output


def test_fail_open_lets_pass_what_does_not_fit(world: Lab, policy_file: PolicyFile) -> None:
    text = f"{POLICY}queue: {{length: 1}}\non_failure: {{queue_full: accept}}\n"
    with udp_counter(world.server, 99) as server, serving(world.gateway, policy_file(text)) as service:
        pause(service)
        send_datagrams(world.client, world.server.ipv4, 99, 50)
        assert server.collect(49) == 49
        service.send(signal.SIGCONT)
        assert service.stop() == 0
    assert lines_of_table(service.output)["default forward"][1] == "1"


def test_a_folder_that_is_not_there(lab: Lab, policy_file: PolicyFile) -> None:
    for option in ("--events", "--captures"):
        done = command(lab.gateway, "run", policy_file(POLICY), option, "/nowhere/x", check=False)
        assert (done.returncode, done.stderr) == (1, "error: /nowhere/x: No such file or directory\n")
    assert not is_installed(lab.gateway)


def test_the_service_outlives_standard_error(world: Lab, policy_file: PolicyFile) -> None:
    words = " ".join(qfilter("run", policy_file(POLICY)))
    with world.gateway.start("bash", "-c", f"exec {words} 2>&-") as service:
        service.wait_for('"type":"start"', timeout=20.0)
        wait_until(lambda: is_installed(world.gateway), "the rules should be installed")
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert not is_installed(world.gateway)


def test_the_service_outlives_standard_output(world: Lab, policy_file: PolicyFile) -> None:
    words = " ".join(qfilter("run", policy_file(POLICY)))
    with world.gateway.start("bash", "-c", f"exec {words} >&-") as service:
        service.wait_for("qfilter: serving", timeout=20.0)
        assert ask(world.client, world.server) is Outcome.ANSWERED
        assert service.stop() == 0
    assert lines_of_table(service.output)["wanted"][:2] == ["accept", "1"]


def test_what_is_done_without_standard_output_is_done(lab: Lab, policy_file: PolicyFile) -> None:
    for words, installed in ((("install", policy_file(POLICY)), True), (("remove",), False)):
        lab.gateway.run("bash", "-c", f"exec {' '.join(qfilter(*words))} >&-", timeout=30.0)
        assert is_installed(lab.gateway) is installed


def test_what_the_lab_waits_for_comes_only_when_it_serves(lab: Lab, policy_file: PolicyFile) -> None:
    with pytest.raises(LabError, match="ended with exit code 1"), serving(lab.gateway, policy_file("version: 2\n")):
        pytest.fail("it served")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_before_it_serves_is_no_end(
    lab: Lab, policy_file: PolicyFile, tmp_path: Path, number: signal.Signals
) -> None:
    """What is tried out while it prepares waits for us; a signal that is ignored there would be no longer its own."""
    tools, seen, go = tmp_path / "bin", tmp_path / "seen", tmp_path / "go"
    tools.mkdir()
    os.mkfifo(go)
    tool = tools / "ip6tables-nft-restore"
    tool.write_text(
        f"#!/bin/sh\nif [ ! -e {seen} ]; then\n"
        f"grep SigIgn /proc/$$/status >{seen}.new; mv {seen}.new {seen}; read _ <{go}\nfi\n"
        'exec /usr/sbin/ip6tables-nft-restore "$@"\n'
    )
    tool.chmod(0o755)
    words = qfilter("run", policy_file(POLICY), "--backend", "iptables-nft")
    path = {"PATH": f"{tools}:{os.environ['PATH']}:/usr/sbin:/sbin"}
    with lab.gateway.start(*words, extra_environment=path) as service:
        wait_until(seen.exists, "the tool should be tried", timeout=20.0)
        service.send(number)
        with go.open("w") as pipe:
            pipe.write("\n")
        service.wait_for("qfilter: serving", timeout=20.0)
        assert service.stop() == 0
    assert not int(seen.read_text().split()[1], 16) >> (number - 1) & 1

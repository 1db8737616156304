"""A native service under load: reloads, live sets, events that nobody reads, death with packets queued, neighbours."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qfilter.control.messages import Change, Changed, ChangeSet, Reloaded
from qfilter.daemon import Service
from qfilter.daemon.recorder import Recorder
from tests.kernel.nfqueue import rules
from tests.kernel.running import (
    POLICY,
    Kept,
    PolicyFile,
    ask,
    await_events,
    command,
    events,
    in_force,
    is_installed,
    pause,
)
from tests.kernel.running import PORT as WANTED
from tests.lab.clients import QUICK, Outcome, send_datagrams, udp_ask
from tests.lab.process import wait_until
from tests.lab.servers import UdpServer, udp_counter, udp_echo
from tests.lab.service import serving
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

PORT = 99
WINDOW = 2_000
"""Datagrams that may be on their way: less than a queue takes."""
RING, BATCH = 8_192, 256
"""Events that wait for their reader, and that it takes at once."""


@contextmanager
def flood(lab: Lab, server: UdpServer, **options: object) -> Iterator[Callable[[], int]]:
    """Datagrams that all must arrive, while the `with` lasts; how many were sent. No more on the way than fit."""
    over = threading.Event()
    sent: list[int] = []

    def go_on() -> None:
        while not over.is_set():
            sent.append(send_datagrams(lab.client, lab.server.ipv4, PORT, 500, **options))  # type: ignore[arg-type]
            wait_until(lambda: sum(sent) - len(server.received) < WINDOW, "the server should get them", timeout=20.0)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield lambda: sum(sent)
    finally:
        over.set()
        thread.join()


def variant(name: str, other: str, second: str) -> str:
    """A policy of two rules that count under its own name, and keep the counts of the other."""
    return f"""version: 1
default: {{forward: drop}}
queue: {{backend: iptables-legacy, number: 0-1, length: 8192}}
rules:
  - {{id: first, match: {{protocol: udp, dport: 99}}, count: {name}-first}}
  - {{id: second, match: {{protocol: udp, dport: 99{second}}}, count: {name}-second, verdict: accept}}
  - {{id: keep, hook: forward, match: {{dport: 1}}, count: {other}-first, verdict: drop}}
  - {{id: keep-2, hook: forward, match: {{dport: 2}}, count: {other}-second, verdict: drop}}
"""


def test_twenty_reloads_under_load_lose_nothing_and_mix_nothing(lab: Lab, policy_file: PolicyFile) -> None:
    """Each packet is in both counts of exactly one policy."""
    texts = (variant("a", "b", ""), variant("b", "a", ", payload: {length: 18}"))
    sources = lab.client.more_addresses(4, 20)
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE --queue-balance 0:1")
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, texts[0]) as service:
        seen: list[int] = []
        with flood(lab, server, sources=sources) as sent:
            for number in range(1, 21):
                assert isinstance(service.reload(str(policy_file(texts[number % 2]))), Reloaded)
                seen.append(len(server.received))
                wait_until(lambda: len(server.received) > seen[-1], "packets should flow", timeout=20.0)
        assert server.collect(sent()) == sent()
        counted = {name: tally.packets for name, tally in service.report().counters.items()}
        assert [row["queue_full"] for row in service.losses] == [0, 0]
        assert all(queue.counters.accepted > 0 for queue in service.queues)
    assert counted["a-first"] == counted["a-second"] > 0
    assert counted["b-first"] == counted["b-second"] > 0
    assert counted["a-first"] + counted["b-first"] == sent()


LIVE = """version: 1
default: {forward: drop}
queue: {backend: iptables-legacy, number: 0-1, length: 8192}
sets: {blocked: {type: address, dynamic: true, timeout: 1h, size: 100}}
rules:
  - {id: blocked, match: {saddr: $blocked}, verdict: drop}
  - {id: passed, match: {protocol: udp}, verdict: accept}
"""


def test_a_set_changes_between_two_packets_while_others_flow(lab: Lab) -> None:
    """What is sent after an element was added is dropped, what is sent after it was deleted passes: each and all."""
    flowing, *changing = lab.client.more_addresses(4, 21)
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE --queue-balance 0:1")
    with (
        udp_counter(lab.server, PORT) as server,
        udp_counter(lab.server, WANTED) as other,
        in_force(lab.gateway, LIVE) as service,
    ):
        with flood(lab, server, sources=[flowing]) as sent:
            for number, address in enumerate(changing):
                change(service, Change.ADD, address)
                send_datagrams(lab.client, lab.server.ipv4, WANTED, 5, sources=[address])
                wait_until(lambda: blocked(service) == 5 * number + 5, "they should be judged")  # noqa: B023
                change(service, Change.DELETE, address)
                send_datagrams(lab.client, lab.server.ipv4, WANTED, 5, sources=[address])
            assert other.collect(100) == 100
        assert service.report().sets["blocked"].elements == 0
        assert service.report().sets["blocked"].added == 20
        assert server.collect(sent()) == sent() > 0


def change(service: Service, what: Change, address: str) -> None:
    changed = service.change_set(ChangeSet(set="blocked", change=what, elements=(address,)))
    assert isinstance(changed, Changed)
    assert changed.count == 1


def blocked(service: Service) -> int:
    return service.report().rules[0].tally.packets


def test_nobody_reads_the_events(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts go on; the newest events are lost and counted, and all that found room are there in the end."""
    record, reads = Recorder.verdict, threading.Event()

    def stalled(self: Recorder, *what: object) -> None:
        reads.wait()
        record(self, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "verdict", stalled)
    text = LIVE.replace("{id: passed, match: {protocol: udp}", "{id: passed, match: {protocol: udp}, log: true")
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE --queue-balance 0:1")
    kept = Kept()
    with udp_counter(lab.server, PORT) as server, in_force(lab.gateway, text, kept=kept) as service:
        with flood(lab, server) as sent:
            wait_until(lambda: len(server.received) > 12_000, "verdicts should go on", timeout=20.0)
        assert server.collect(sent()) == sent()
        assert service.report().rules[1].tally.packets == sent()
        reads.set()
        wait_until(lambda: len(kept.of("verdict")) + lost(kept) == sent(), "all that were lost should be told")
    told, (stop,) = kept.of("verdict"), kept.of("stop")
    assert stop["events_lost"] == lost(kept) == sent() - len(told)
    assert len(told) <= RING + BATCH
    assert told[0]["sport"] == server.received[0].port, "the oldest are kept"


def lost(kept: Kept) -> int:
    """As `lost` events say it."""
    return sum(int(str(event["count"])) for event in kept.of("lost"))


def test_an_output_that_fails_is_told_while_it_serves(lab: Lab, policy_file: PolicyFile) -> None:
    with (
        udp_echo(lab.server, WANTED),
        serving(lab.gateway, policy_file(POLICY), "--events", "/dev/full", "--format", "none") as service,
    ):
        service.wait_for("qfilter: events are lost: [Errno 28] No space left on device")
        assert ask(lab.client, lab.server) is Outcome.ANSWERED
        said = r"\d+ events or captured packets were lost: \[Errno 28\] No space left on device"
        for what in ["stats", "status"]:
            assert re.search(said, command(lab.gateway, what).stdout)
        told = json.loads(command(lab.gateway, "stats", "--format", "json").stdout)
        assert told["events_lost"] >= 1
        assert told["events_error"] == "[Errno 28] No space left on device"


def test_what_is_queued_when_it_is_killed_never_passes(lab: Lab, policy_file: PolicyFile) -> None:
    policy = policy_file(POLICY)
    with udp_counter(lab.server, WANTED) as server:
        with serving(lab.gateway, policy) as service:
            pause(service)
            send_datagrams(lab.client, lab.server.ipv4, WANTED, 20)
            wait_until(lambda: lab.gateway.queues()[0].waiting == 20, "they should wait")
            service.kill()
        assert lab.gateway.queues() == {}
        send_datagrams(lab.client, lab.server.ipv4, WANTED, 20)
        assert server.collect(0) == 0
        with serving(lab.gateway, policy):
            send_datagrams(lab.client, lab.server.ipv4, WANTED, 3)
            assert server.collect(3) == 3
    assert not is_installed(lab.gateway)


def test_two_services_in_two_namespaces(lab: Lab, policy_file: PolicyFile, tmp_path: Path) -> None:
    """The same queue number in each; each has its own rules, events, counts and control socket."""
    second = tmp_path / "second.yaml"
    second.write_text(
        "version: 1\ndefault: {input: drop}\nrules:\n"
        "  - {id: here, match: {protocol: udp, dport: 9}, log: true, verdict: accept}\n"
    )
    logs = tmp_path / "first.json", tmp_path / "second.json"
    with (
        udp_echo(lab.server, WANTED),
        serving(lab.gateway, policy_file(POLICY), "--events", str(logs[0])),
        serving(lab.server, second, "--events", str(logs[1])),
    ):
        assert ask(lab.client, lab.server) is Outcome.ANSWERED
        (first,), (last,) = (await_events(log, "verdict", 1) for log in logs)
        assert ((first["rule"], first["hook"]), (last["rule"], last["hook"])) == (
            ("wanted", "forward"),
            ("here", "input"),
        )
        assert udp_ask(lab.gateway, lab.server.ipv4, 7, timeout=QUICK).outcome is Outcome.TIMED_OUT
        assert "wanted" in command(lab.gateway, "stats").stdout
        assert "here" in command(lab.server, "stats").stdout
    assert events(logs[0], "stop")[0]["packets"] == 2
    assert not is_installed(lab.server)

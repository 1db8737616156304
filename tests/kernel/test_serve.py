"""`qfilter.serve`: a policy in force from Python, in the namespace of the gateway."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import qfilter
from qfilter.daemon import EngineName, losses, prepare
from qfilter.events.outputs import Outputs
from tests.kernel.running import POLICY, PORT, Kept, ask, command, is_installed, ruleset, unbind
from tests.lab.clients import QUICK, Outcome, udp_ask
from tests.lab.holder import QueueHolder
from tests.lab.process import wait_until
from tests.lab.servers import udp_echo
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-nft")

engines = pytest.mark.parametrize("engine", EngineName)

PATIENT = 10.0
ASKED: list[int] = []


@qfilter.predicate("test.small", needs=("length",))
def is_small(packet: qfilter.Packet) -> bool:
    length = packet.fields["length"]
    assert isinstance(length, int)
    ASKED.append(length)
    return length < 60


def service_of(engine: EngineName, policy: qfilter.Policy, outputs: Outputs, *, install: bool) -> qfilter.Service:
    """As `qfilter.serve` makes it, with another engine."""
    return qfilter.Service(prepare(policy.model, install=install, engine=engine), outputs, engine=engine)


@pytest.fixture
def world(lab: Lab) -> Iterator[Lab]:
    """With an echo behind the gateway, and this thread inside of it."""
    with udp_echo(lab.server, PORT), lab.gateway.entered():
        yield lab


@pytest.fixture
def own_rule(world: Lab) -> None:
    world.gateway.run("iptables-nft", "-A", "FORWARD", "-p", "udp", "-j", "NFQUEUE", "--queue-num", "5")


@pytest.mark.usefixtures("own_rule")
def test_the_example_of_the_issue(world: Lab) -> None:
    with qfilter.serve(qfilter.loads(POLICY), queues=[5]) as service:
        assert isinstance(service, qfilter.Service)
        assert ask(world.client, world.server) is Outcome.ANSWERED
        threading.Timer(0.0, service.stop).start()
        assert service.wait() is True
        assert service.wait() is True
    assert world.gateway.queues() == {}
    assert [(row.rule, row.tally.packets) for row in service.report().rules] == [
        ("wanted", 1),
        ("refused", 0),
        ("answer", 1),
    ]
    assert (service.queues[0].counters.received, service.queues[0].counters.accepted) == (2, 2)
    service.close()
    service.stop()


@pytest.mark.usefixtures("own_rule")
def test_waiting_has_an_end() -> None:
    with qfilter.serve(qfilter.loads(POLICY), queues=[5]) as service:
        assert service.wait(timeout=0.01) is False


@engines
@pytest.mark.usefixtures("own_rule")
def test_a_predicate_decides(world: Lab, engine: EngineName) -> None:
    policy = qfilter.loads(
        "version: 1\ndefault: {forward: drop}\nqueue: {number: 5}\n"
        "rules: [{id: small, match: {python: test.small}, verdict: accept}]\n"
    )
    ASKED.clear()
    with service_of(engine, policy, Outputs(), install=False) as service:
        seen = udp_ask(world.client, world.server.ipv4, PORT, payload=b"x" * 20)
        assert seen.outcome is Outcome.ANSWERED
        big = udp_ask(world.client, world.server.ipv4, PORT, payload=b"x" * 50, timeout=QUICK)
        assert big.outcome is Outcome.TIMED_OUT
        wait_until(lambda: len(ASKED) == 3, "the third should be asked for")
    assert ASKED == [48, 48, 78]
    assert [row.tally.packets for row in service.report().rules] == [2]


@engines
def test_with_kernel_rules_and_events(world: Lab, engine: EngineName) -> None:
    before, kept, outputs = ruleset(world.gateway), Kept(), Outputs()
    outputs.to_sink(kept)
    with service_of(engine, qfilter.loads(POLICY), outputs, install=True) as service:
        assert service.status().engine == engine
        assert is_installed(world.gateway)
        for family in (4, 6):
            assert ask(world.client, world.server, family) is Outcome.ANSWERED
    assert ruleset(world.gateway) == before
    outputs.close()
    assert [event["type"] for event in kept.events] == ["start", "verdict", "verdict", "stop"]
    assert outputs.outcome.lost == 0


def test_a_taken_queue_leaves_nothing_behind(world: Lab) -> None:
    before = ruleset(world.gateway)
    with (
        QueueHolder(world.gateway, 1),
        pytest.raises(qfilter.QueueTakenError) as caught,
        qfilter.serve(qfilter.loads(POLICY), queues=[0, 1], install=True),
    ):
        pytest.fail("it served")
    assert caught.value.number == 1
    assert list(world.gateway.queues()) == []
    assert ruleset(world.gateway) == before


def test_two_services_do_not_share_the_kernel_rules(world: Lab) -> None:
    with (
        qfilter.serve(qfilter.loads(POLICY), install=True),
        pytest.raises(qfilter.FirewallError, match="looks after the kernel rules"),
        qfilter.serve(qfilter.loads(POLICY), queues=[1], install=True),
    ):
        pytest.fail("both served")
    assert not is_installed(world.gateway)


@engines
def test_a_queue_that_is_gone_ends_it_and_the_rules_stay(
    world: Lab, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    monkeypatch.setattr(losses, "LOOK_EVERY", 0.05)
    kept, outputs = Kept(), Outputs()
    outputs.to_sink(kept)
    service = service_of(engine, qfilter.loads(POLICY), outputs, install=True)
    with pytest.raises(qfilter.QueueError, match="serve queue 0: it is no longer bound"), service:  # noqa: PT012
        unbind(world.gateway, 0)
        service.wait(timeout=PATIENT)
    assert service.failed
    assert is_installed(world.gateway)
    assert udp_ask(world.client, world.server.ipv4, PORT, timeout=QUICK).outcome is Outcome.TIMED_OUT
    outputs.close()
    assert [event["type"] for event in kept.events] == ["start", "stop"]
    command(world.gateway, "remove")
    assert not is_installed(world.gateway)


@pytest.mark.usefixtures("own_rule")
def test_who_never_waits_is_told_of_the_failure_at_the_end(world: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOOK_EVERY", 0.05)
    service = qfilter.serve(qfilter.loads(POLICY), queues=[5])
    with pytest.raises(qfilter.QueueError, match="no longer bound"), service:  # noqa: PT012
        unbind(world.gateway, 5)
        wait_until(lambda: service.failed, "serving should end", timeout=PATIENT)


def test_a_policy_with_a_failing_test_is_not_served() -> None:
    text = f"{POLICY}tests:\n  - {{packet: {{hook: forward, protocol: udp, dport: 9}}, expect: drop}}\n"
    with pytest.raises(qfilter.PolicyError, match="expected drop, got accept by wanted"):
        qfilter.serve(qfilter.loads(text))


def test_the_descriptors_are_given_back(world: Lab) -> None:
    def opened() -> set[str]:
        gc.collect()  # what earlier tests left in cycles
        return {fd.name for fd in Path("/proc/self/fd").iterdir()}

    policy = qfilter.loads(POLICY)
    with qfilter.serve(policy, queues=[5]):
        pass
    before, threads = opened(), threading.active_count()
    for _ in range(3):
        with qfilter.serve(policy, queues=[5, 6]):
            assert sorted(world.gateway.queues()) == [5, 6]
    # Who answers Python's questions may be in one, and is not waited for: its thread goes when it comes back.
    wait_until(lambda: opened() <= before, "the descriptors should be given back")
    wait_until(lambda: threading.active_count() <= threads, "the threads should end")

"""A reload while packets come, while others ask, and while it stops: no packet is judged by a mix of policies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

import pytest

from qfilter import firewall
from qfilter.control.messages import Change, Changed, ChangeSet, Refused, Reloaded
from qfilter.daemon import EngineName, Service, serving, threads
from qfilter.daemon import service as service_module
from qfilter.errors import FirewallError, QueueError
from qfilter.model.plan import KernelRules, Plan
from qfilter.model.policy import Policy
from qfilter.policy.load import load
from tests.kernel.nfqueue import rules
from tests.kernel.running import Kept, PolicyFile, in_force, is_installed, ruleset
from tests.lab.clients import send_datagrams
from tests.lab.process import wait_until
from tests.lab.servers import udp_counter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

GOOD, BAD = 99, 66
ENGINES = list(EngineName)
HEAD = """version: 1
default: {forward: drop}
on_failure: {truncated: accept}
queue: {backend: iptables-legacy, length: 8192}
sets: {blocked: {type: address, dynamic: true, size: 10}}
rules:
  - {id: blocked, match: {saddr: $blocked}, verdict: drop}
"""
# Both drop what is sent to BAD and accept the rest; the first looks at a datagram's end, the second at headers alone.
DEEP = (
    HEAD
    + """  - {id: bad, match: {dport: 66, payload: {ends_with: ....}}, verdict: drop}
  - {id: good, match: {protocol: udp, payload: {ends_with: ....}}, verdict: accept}
"""
)
FLAT = (
    HEAD
    + """  - {id: bad, match: {dport: 66}, verdict: drop}
  - {id: good, match: {protocol: udp}, verdict: accept}
"""
)


@pytest.fixture
def world(lab: Lab) -> Lab:
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    return lab


@pytest.mark.parametrize("engine", ENGINES)
def test_what_one_policy_wants_less_of_is_never_judged_by_the_other(
    world: Lab, policy_file: PolicyFile, engine: EngineName
) -> None:
    """A copy that ends before the bytes that a rule looks at would be let through by `truncated`."""
    policies = [policy_file(DEEP).rename(policy_file(DEEP).with_name("deep.yaml")), policy_file(FLAT)]
    over = threading.Event()
    sent: list[int] = []

    def flood() -> None:
        while not over.is_set():
            sent.append(send_datagrams(world.client, world.server.ipv4, GOOD, 100, size=500))
            send_datagrams(world.client, world.server.ipv4, BAD, 100, size=500)
            wait_until(lambda: sum(sent) - len(good.received) < 1_000, "the server should get them", timeout=20.0)

    with (
        udp_counter(world.server, GOOD) as good,
        udp_counter(world.server, BAD) as bad,
        in_force(world.gateway, DEEP, engine=engine) as service,
    ):
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for number in range(1, 21):
                seen = len(good.received)
                assert isinstance(service.reload(str(policies[number % 2])), Reloaded)
                wait_until(lambda: len(good.received) > seen, "packets should flow", timeout=20.0)  # noqa: B023
        finally:
            over.set()
            thread.join()
        assert good.collect(sum(sent)) == sum(sent)
        assert bad.received == []
        assert all(not row.tally.packets for row in service.report().causes.values())


def recorded(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a reload asks of the queues, a line each, from now on."""
    running = service._serving
    assert isinstance(running, (threads.ServingByThreads, serving.ServingByCall))
    configure, switch = running.configure, running.switch
    lines: list[str] = []

    def write_configure(plan: Plan) -> None:
        lines.append(f"copy {plan.copy_range}")
        configure(plan)

    def write_switch(plan: Plan, engine: object) -> None:
        lines.append("switch")
        switch(plan, engine)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "configure", write_configure)
    monkeypatch.setattr(running, "switch", write_switch)
    return lines


@pytest.mark.parametrize("engine", ENGINES)
def test_an_edited_plugin_of_a_reload_that_is_refused_judges_nothing(world: Lab, engine: EngineName) -> None:
    asking = FLAT.replace("{dport: 66}", "{dport: 66, python: 'bad:deny'}")
    with (
        TemporaryDirectory(dir=Path.home(), prefix=".qfilter-test-") as folder,
        udp_counter(world.server, GOOD) as good,
        udp_counter(world.server, BAD) as bad,
        in_force(world.gateway, FLAT, engine=engine) as service,
    ):
        path = Path(folder, "policy.yaml")
        for answer, text, outcome in ((True, asking, Reloaded), (False, asking + "rules: again\n", Refused)):
            path.write_text(text)
            path.with_name("bad.py").write_text(f"def deny(packet): return {answer}\n")
            assert isinstance(service.reload(str(path)), outcome)
            send_datagrams(world.client, world.server.ipv4, BAD, 10)
            send_datagrams(world.client, world.server.ipv4, GOOD, 10)
        wait_until(lambda: sum(row.tally.packets for row in service.report().rules) == 40, "all should be judged")
        assert (good.collect(20), bad.received) == (20, [])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_queues_give_what_both_want_until_one_is_gone(
    world: Lab, policy_file: PolicyFile, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    with in_force(world.gateway, DEEP, engine=engine) as service:
        lines = recorded(service, monkeypatch)
        assert isinstance(service.reload(str(policy_file(FLAT))), Reloaded)
        assert world.gateway.queues()[0].copy_range == 128
        assert isinstance(service.reload(str(policy_file(DEEP))), Reloaded)
        assert world.gateway.queues()[0].copy_range == 65_531
    assert lines == ["copy 65531", "switch", "copy 128", "copy 65531", "switch", "copy 65531"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("failing", "said", "judges"),
    [
        ({1}, "no answer", "old"),
        ({2}, "no answer", "old"),
        ({1, 2}, "no answer\nthe old policy judges, and not all that the old one needs is back: configure", "old"),
        ({2, 3}, "no answer\nthe new policy judges, and not all that the old one needs is back: configure", "new"),
    ],
)
def test_a_queue_that_does_not_take_its_settings(
    world: Lab,
    policy_file: PolicyFile,
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineName,
    failing: set[int],
    said: str,
    judges: str,
) -> None:
    """What is told is true: who judges then is seen by what passes."""
    closed = str(policy_file(FLAT.replace("{dport: 66}", "{dport: [66, 99]}")))
    kept = Kept()
    with (
        udp_counter(world.server, GOOD) as good,
        in_force(world.gateway, DEEP, engine=engine, kept=kept) as service,
    ):
        running, asked = service._serving, []
        assert running is not None
        configure = running.configure

        def fail(plan: Plan) -> None:
            asked.append(plan)
            if len(asked) in failing:
                raise QueueError("configure queue 0", "no answer")
            configure(plan)

        monkeypatch.setattr(running, "configure", fail)
        outcome = service.reload(closed)
        assert isinstance(outcome, Refused)
        assert said in outcome.problem
        assert (service.status().digest == load(closed).digest) == (judges == "new")
        send_datagrams(world.client, world.server.ipv4, GOOD, 5, size=500)
        decided = "good" if judges == "old" else "bad"
        wait_until(lambda: packets(service, decided) == 5, "they should be judged")
        assert good.collect(5 if judges == "old" else 0) == (5 if judges == "old" else 0)
        (told,) = kept.of("reload")
        assert told["outcome"] == "refused"


def test_kernel_rules_that_nothing_puts_back_are_there_after_the_next_reload(
    lab: Lab, policy_file: PolicyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    install, tries = firewall.install, [1, 2]

    def fail(rules: KernelRules) -> tuple[str, ...]:
        if not tries:
            return install(rules)
        tries.pop()
        firewall.remove()
        raise FirewallError("iptables-legacy-restore", "a half of it is gone")

    two_hooks = DEEP.replace("forward: drop", "forward: drop, input: accept")
    with in_force(lab.gateway, two_hooks, install=True) as service:
        stood = ruleset(lab.gateway)
        monkeypatch.setattr(firewall, "install", fail)
        outcome = service.reload(str(policy_file(FLAT)))
        assert isinstance(outcome, Refused)
        assert "the old policy judges, and not all that the old one needs is back: iptables" in outcome.problem
        assert not is_installed(lab.gateway)
        assert isinstance(service.reload(str(policy_file(two_hooks))), Reloaded)
        assert ruleset(lab.gateway) == stood


def packets(service: Service, rule: str) -> int:
    return next(row.tally.packets for row in service.report().rules if row.rule == rule)


class Reading:
    """Policies are read when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.go_on = threading.Semaphore(0)
        monkeypatch.setattr(service_module, "load", self)

    def __call__(self, path: str) -> Policy:
        self.begun.append(Path(path).name)
        assert self.go_on.acquire(timeout=20.0)
        return load(path)


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    made = Reading(monkeypatch)
    yield made
    made.go_on.release(10)


@pytest.fixture
def two(policy_file: PolicyFile) -> list[str]:
    names = ["one.yaml", "two.yaml"]
    return [str(policy_file(FLAT).rename(policy_file(FLAT).with_name(name))) for name in names]


def test_while_a_policy_is_read_the_service_answers_and_changes(world: Lab, reading: Reading, two: list[str]) -> None:
    told: SimpleQueue[tuple[str, object]] = SimpleQueue()

    def teller(name: str) -> Callable[[Reloaded | Refused], None]:
        return lambda outcome: told.put((name, outcome))

    with in_force(world.gateway, DEEP) as service:
        before = service.status().digest
        for path in two:
            service.ask_reload(path, teller(Path(path).name))
        wait_until(lambda: reading.begun == ["one.yaml"], "the first should be read, and the second not yet")
        change = ChangeSet(set="blocked", change=Change.ADD, elements=("192.0.2.7",))
        assert service.change_set(change) == Changed(count=1)
        assert [each.added for each in service.sets().sets] == [1]
        assert service.status().digest == before
        reading.go_on.release(2)
        for path in two:
            name, outcome = told.get(timeout=20.0)
            assert name == Path(path).name, "in order"
            assert isinstance(outcome, Reloaded)
        assert reading.begun == ["one.yaml", "two.yaml"]
        assert [each.added for each in service.sets().sets] == [1], "it was added to what goes on"


def test_a_stop_waits_for_no_policy_that_is_read(world: Lab, reading: Reading, two: list[str]) -> None:
    told: SimpleQueue[object] = SimpleQueue()
    kept = Kept()
    with in_force(world.gateway, DEEP, kept=kept) as service:
        for path in two:
            service.ask_reload(path, told.put)
        wait_until(lambda: reading.begun == ["one.yaml"], "the first should be read")
        service.close()
        assert world.gateway.queues() == {}
        assert told.empty(), "it is still being read"
        reading.go_on.release(1)
        refused = Refused(problem="the service stops: nothing was changed")
        assert [told.get(timeout=20.0), told.get(timeout=20.0)] == [refused, refused]
        assert service.reload(two[0]) == refused, "also when it is asked for later"
    assert reading.begun == ["one.yaml"]
    assert [event["type"] for event in kept.events][-1] == "stop"
    assert kept.of("reload") == []

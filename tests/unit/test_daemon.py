"""What the daemon decides by itself: on which kernel it runs, and what it says of its queues."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import qfilter
from qfilter import daemon, firewall
from qfilter.control.messages import Change, Changed, ChangeSet, Refused, Reloaded
from qfilter.daemon import EngineName, losses, preparing, recorder
from qfilter.daemon import service as running
from qfilter.daemon import serving as by_call
from qfilter.engine.reference import ReferenceEngine
from qfilter.errors import PolicyError, QueueError, UnsupportedError
from qfilter.events.outputs import Outputs
from qfilter.events.record import Event
from qfilter.fields import Family
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Kind, Reason, Verdict
from qfilter.netlink.nfnetlink import ConfigFlag
from qfilter.policy.load import loads
from qfilter.queues.base import Judge, OwnVerdicts, QueueCounters
from tests.lab.process import wait_until
from tests.unit.queues.capture_files import SYN

TEXT = "version: 1\ndefault: {input: drop}\n"


@dataclass
class FakeQueue:
    """A queue without a kernel; each `receive` judges one packet while `waiting` lasts."""

    family: Family | None = None
    number: int = 0
    waiting: int = 0
    fails: bool = False
    refuses: int = 0
    """A copy range."""
    asked: list[tuple[object, ...]] = field(default_factory=list)
    counters: QueueCounters = field(default_factory=QueueCounters)
    warnings: tuple[str, ...] = ()
    verdicts: list[Kind] = field(default_factory=list)
    descriptor: int = field(default_factory=lambda: os.eventfd(1))
    closed: bool = False

    def __post_init__(self) -> None:
        self.own = OwnVerdicts(self.counters, {})

    def fileno(self) -> int:
        return self.descriptor

    def receive(self, judge: Judge) -> int:
        if self.fails:
            raise QueueError("read ip_queue", "Connection refused", 111)
        if not self.waiting:
            return 0
        self.waiting -= 1
        self.verdicts.append(judge(Packet.from_bytes(SYN, hook=Hook.INPUT)).decision.kind)
        return 1

    def configure(
        self, *, copy_range: int, length: int, fail_open: bool, conntrack: bool, socket_buffer: int | None
    ) -> None:
        if copy_range == self.refuses:
            raise QueueError("configure queue 0", "Invalid argument", 22)
        self.asked.append((copy_range, length, fail_open, socket_buffer))

    def answer_by(self, *, mark_mask: int, failure: Mapping[Reason, Kind]) -> None:
        self.asked.append((f"{mark_mask:#x}", failure[Reason.ERROR]))

    def close(self) -> None:
        if not self.closed:
            os.close(self.descriptor)
        self.closed = True


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def reopen(self) -> None:
        """Nothing to open."""

    def cancel(self) -> None:
        """Never waits."""

    def close(self) -> None:
        """Nothing to let go."""


def service(monkeypatch: pytest.MonkeyPatch, *queues: FakeQueue, outputs: Outputs | None = None) -> daemon.Service:
    def opened(_: object, undo: ExitStack) -> tuple[FakeQueue, ...]:
        for queue in queues:
            undo.callback(queue.close)
        return queues

    monkeypatch.setattr(by_call, "open_queues", opened)
    monkeypatch.setattr(preparing, "queue_flags", lambda _: ConfigFlag.GSO)
    monkeypatch.setattr(losses, "LOOK_EVERY", 0.01)
    return daemon.Service(daemon.prepare(loads(TEXT), install=False), outputs, engine=EngineName.REFERENCE)


@contextmanager
def by_call_of(monkeypatch: pytest.MonkeyPatch, *queues: FakeQueue) -> Iterator[by_call.ServingByCall]:
    """Queues that nobody serves by himself."""
    service(monkeypatch, *queues)
    plan = daemon.prepare(loads(TEXT), install=False)
    with ExitStack() as undo:
        yield by_call.ServingByCall(plan, ReferenceEngine(plan.policy), recorder.Recorder(Outputs()), undo)


def policy(**queue: object) -> Policy:
    return loads(f"{TEXT}queue: {{{', '.join(f'{key}: {value}' for key, value in queue.items())}}}\n")


def test_a_kernel_with_nfqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "queue_flags", lambda _: ConfigFlag.UID_GID | ConfigFlag.FAIL_OPEN)
    able = daemon.capabilities(policy(length=9), install=False)
    assert (able.fail_open, able.unreadable, able.ip_queue, able.backends) == (True, frozenset(), False, {})
    monkeypatch.setattr(preparing, "queue_flags", lambda _: ConfigFlag.GSO)
    able = daemon.capabilities(policy(length=9), install=False)
    assert (able.fail_open, able.unreadable) == (False, frozenset({"uid", "gid"}))


@pytest.mark.parametrize(
    ("rule", "asked", "taken", "unreadable"),
    [
        ("{match: {ct.state: new}, verdict: accept}", True, True, set()),
        ("{match: {ct.state: new}, verdict: accept}", True, False, {"ct.state", "ct.mark"}),
        ("{match: {dport: 9}, rules: [{match: {not: {ct.mark: 7}}, log: true}]}", True, True, set()),
        ("{limit: {rate: 1/second, per: ct.mark}, verdict: accept}", True, True, set()),
        ("{match: {mark: 7}, verdict: accept}", False, True, set()),
    ],
)
def test_a_kernel_is_asked_for_connections_only_when_a_rule_looks_at_them(
    monkeypatch: pytest.MonkeyPatch, rule: str, asked: bool, taken: bool, unreadable: set[str]
) -> None:
    questions = []

    def flags(question: ConfigFlag) -> ConfigFlag:
        questions.append(question)
        return question if taken else question & ~ConfigFlag.CONNTRACK

    monkeypatch.setattr(preparing, "queue_flags", flags)
    able = daemon.capabilities(loads(f"{TEXT}rules: [{rule}]\n"), install=False)
    assert [ConfigFlag.CONNTRACK in question for question in questions] == [asked]
    assert able.unreadable == unreadable


def test_a_rule_about_connections_that_the_kernel_cannot_tell_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "queue_flags", lambda asked: asked & ~ConfigFlag.CONNTRACK)
    text = f"{TEXT}rules:\n  - match:\n      not: {{ct.state: [established, related]}}\n    verdict: drop\n"
    with pytest.raises(PolicyError) as caught:
        daemon.prepare(loads(text), install=False)
    assert [str(one) for one in caught.value.diagnostics] == [
        (
            "<policy>:5:13: error: field 'ct.state': no packet from this queue carries it, "
            "which takes a kernel with CONFIG_NETFILTER_NETLINK_GLUE_CT"
        )
    ]


def test_a_kernel_with_ip_queue_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: ConfigFlag) -> ConfigFlag:
        raise UnsupportedError("NFQUEUE: this kernel has no nfnetlink_queue")

    monkeypatch.setattr(preparing, "queue_flags", absent)
    able = daemon.capabilities(policy(target="queue"), install=False)
    assert (able.ip_queue, able.fail_open) == (True, False)
    assert {"uid", "physin", "ct.state", "ct.mark"} <= able.unreadable
    with pytest.raises(UnsupportedError, match="no nfnetlink_queue"):
        daemon.capabilities(policy(target="nfqueue"), install=False)


def test_tools_are_probed_only_for_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    def probed() -> None:
        pytest.fail("the tools were probed")

    monkeypatch.setattr(firewall, "probe", probed)
    monkeypatch.setattr(preparing, "queue_flags", lambda _: ConfigFlag.GSO)
    assert daemon.prepare(loads(TEXT), install=False).kernel is None


def test_a_failing_test_comes_before_any_question_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "queue_flags", lambda _: pytest.fail("the kernel was asked"))
    with pytest.raises(PolicyError, match="expected accept, got drop by default"):
        daemon.prepare(loads(f"{TEXT}tests: [{{packet: {{hook: input}}, expect: accept}}]\n"))


def test_the_losses_of_two_queues_of_one_number_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    four, six = FakeQueue(Family.IPV4), FakeQueue(Family.IPV6)
    kept, outputs = Kept(), Outputs()
    outputs.to_sink(kept)
    with service(monkeypatch, four, six, outputs=outputs) as serving:
        six.counters.fail(Reason.ERROR, "ValueError: no")
        wait_until(lambda: len(kept.events) == 2, "the failure should become an event")
    outputs.close()
    start, queue, stop = kept.events
    assert (start["queues"], start["backend"]) == ([0], None)
    assert (queue["family"], queue["failures"], queue["last_failure"]) == ("ipv6", {"error": 1}, "ValueError: no")
    assert [(each["family"], each["failures"]) for each in serving.losses] == [("ipv4", {}), ("ipv6", {"error": 1})]
    assert stop["queues"] == list(serving.losses)
    assert (four.closed, six.closed) == (True, True)


def test_a_queue_that_breaks_ends_the_service_and_lets_go_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = FakeQueue(Family.IPV4), FakeQueue(Family.IPV6, fails=True)
    serving = service(monkeypatch, *queues)
    with pytest.raises(QueueError, match="read ip_queue: Connection refused"), serving:
        serving.wait(timeout=10.0)
    assert serving.failed
    assert [queue.closed for queue in queues] == [True, True]


def test_what_waits_is_decided_at_the_end_and_no_more_than_the_queue_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = FakeQueue(Family.IPV4, waiting=1_000_000)
    with by_call_of(monkeypatch, endless) as serving:
        serving.drain(endless)
    assert endless.waiting == 1_000_000 - 1_024


def test_what_is_rejected_without_an_answer_in_the_kernel_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = daemon.prepare(loads(TEXT.replace("drop", "reject")), install=False)
    queue = FakeQueue(waiting=3)
    with by_call_of(monkeypatch, queue) as serving:
        serving.switch(plan, ReferenceEngine(plan.policy))
        for answered in (True, False, True):
            serving.answer_rejects(answered)
            serving.receive(queue)
        report = serving.report()
    assert queue.verdicts == [Kind.REJECT, Kind.DROP, Kind.REJECT]
    assert report.verdicts[Kind.REJECT].packets == 3, "that is what the policy says"


def test_a_condition_that_hangs_keeps_no_reject_from_becoming_a_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else SIGTERM would remove no kernel rule."""
    asked, go_on = threading.Event(), threading.Event()

    @qfilter.predicate("test.daemon.hangs")
    def hangs(_: Packet) -> bool:
        asked.set()
        return go_on.wait(20.0)

    text = f"{TEXT}rules: [{{id: hangs, match: {{python: test.daemon.hangs}}, verdict: reject}}]\n"
    plan = daemon.prepare(loads(text), install=False)
    queue = FakeQueue(waiting=1)
    with by_call_of(monkeypatch, queue) as serving:
        serving.switch(plan, ReferenceEngine(plan.policy))
        judging = threading.Thread(target=serving.receive, args=(queue,))
        judging.start()
        assert asked.wait(20.0)
        serving.answer_rejects(False)
        assert queue.verdicts == []
        go_on.set()
        judging.join()
    assert queue.verdicts == [Kind.DROP]


@dataclass
class SlowQueue(FakeQueue):
    """Sends a verdict when it may."""

    given: threading.Event = field(default_factory=threading.Event)
    may_send: threading.Event = field(default_factory=threading.Event)

    def receive(self, judge: Judge) -> int:
        def given(packet: Packet) -> Verdict:
            verdict = judge(packet)
            self.given.set()
            assert self.may_send.wait(20.0)
            return verdict

        return super().receive(given)


def test_the_kernel_rules_do_not_change_before_a_reject_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a chain without its REJECT rule it would pass."""
    monkeypatch.setattr(by_call, "_SENDING", 0.01)
    plan = daemon.prepare(loads(TEXT.replace("drop", "reject")), install=False)
    queue = SlowQueue(waiting=1)
    with by_call_of(monkeypatch, queue) as serving:
        serving.switch(plan, ReferenceEngine(plan.policy))
        judging = threading.Thread(target=serving.receive, args=(queue,))
        judging.start()
        assert queue.given.wait(20.0)
        with pytest.raises(QueueError, match="answer no rejects: one that was given before is still not sent"):
            serving.answer_rejects(False)
        queue.may_send.set()
        judging.join()
        serving.answer_rejects(False)
    assert queue.verdicts == [Kind.REJECT]


def test_what_cannot_be_installed_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(Family.IPV4)
    serving = service(monkeypatch, queue)
    monkeypatch.setattr(by_call.ServingByCall, "start", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), serving:
        pytest.fail("it served")
    assert queue.closed
    serving.close()


NEW = """version: 1
default: {input: accept}
on_failure: {error: accept}
queue: {length: 9}
sets: {s: {type: string, dynamic: true}}
rules:
  - {id: get, match: {payload: {contains: GET}}, verdict: reject}
  - {id: named, match: {iifname: $s}, verdict: drop}
"""


def written(folder: Path, text: str) -> str:
    path = folder / "p.yaml"
    path.write_text(text)
    return str(path)


def test_a_reload_reaches_the_queues_and_what_waited_is_judged_by_the_old_policy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queue = FakeQueue()
    serving = service(monkeypatch, queue)
    monkeypatch.setattr(by_call.ServingByCall, "start", lambda *_: None)
    serving.start()
    queue.waiting = 1
    assert serving.reload(written(tmp_path, NEW)) == Reloaded(
        file=f"{tmp_path}/p.yaml",
        digest=serving.plan.policy.digest,
        changes=(
            f"file {tmp_path}/p.yaml, was <policy>",
            "default input accept, was drop",
            "on_failure error accept, was drop",
            "queue.length 9, was 1024",
            "set s added",
            "rule get added",
            "rule named added",
        ),
        warnings=(),
    )
    assert queue.asked == [(65_531, 1_024, False, None), ("0xf0000000", Kind.ACCEPT), (65_531, 9, False, None)]
    verdicts = serving.report().verdicts
    assert (verdicts[Kind.DROP].packets, verdicts[Kind.ACCEPT].packets) == (1, 0)
    queue.waiting = 1
    assert isinstance(serving._serving, by_call.ServingByCall)
    serving._serving.receive(queue)
    assert serving.report().verdicts[Kind.ACCEPT].packets == 1
    serving.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("version: 2\n", "p.yaml:1:10: error: the number '2': expected 1"),
        (NEW + "tests: [{packet: {hook: input}, expect: drop}]\n", "expected drop, got accept by default"),
        (NEW.replace("length: 9", "number: 7"), "p.yaml:4:17: error: queue.number 7: the service runs with 0"),
        (NEW, "configure queue 0: Invalid argument"),
    ],
)
def test_a_reload_that_is_refused_leaves_the_old_policy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, problem: str
) -> None:
    queue, said = FakeQueue(refuses=65_531), list[str]()
    serving = service(monkeypatch, queue)
    monkeypatch.setattr(by_call.ServingByCall, "start", lambda *_: None)
    serving._say = said.append
    serving.start()
    before = serving.plan
    outcome = serving.reload(written(tmp_path, text))
    assert isinstance(outcome, Refused)
    assert problem in "\n".join((outcome.problem, *map(str, outcome.diagnostics)))
    assert serving.plan == before
    assert said[-1] == f"{tmp_path}/p.yaml refused: the policy before it stays in force"
    assert any(problem in line for line in said)
    assert queue.asked == [(before.copy_range, 1_024, False, None)] * (text == NEW)
    serving.close()


def test_a_reload_that_is_refused_leaves_the_old_policys_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue()
    serving = service(monkeypatch, queue)
    monkeypatch.setattr(by_call.ServingByCall, "start", lambda *_: None)
    serving.start()
    assert isinstance(serving._serving, by_call.ServingByCall)
    text = "version: 1\ndefault: {input: accept}\nrules: [{id: bad, match: {python: 'bad:deny'}, verdict: drop}]\n"
    with TemporaryDirectory(dir=Path.home(), prefix=".qfilter-test-") as name:
        plugin = Path(name, "bad.py")
        for answer, rest, outcome in ((True, "", Reloaded), (False, "rules: again\n", Refused)):
            plugin.write_text(f"def deny(packet): return {answer}\n")
            plugin.chmod(0o644)
            assert isinstance(serving.reload(written(Path(name), text + rest)), outcome)
            queue.waiting = 1
            serving._serving.receive(queue)
    assert serving.report().verdicts[Kind.DROP].packets == 2
    serving.close()


def test_a_fault_in_a_reload_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = service(monkeypatch)
    monkeypatch.setattr(running, "load", lambda _: 1 / 0)
    assert serving.reload() == Refused(problem="a fault of qfilter's own: ZeroDivisionError: division by zero")


def test_sets_are_changed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serving = service(monkeypatch)
    assert isinstance(serving.reload(written(tmp_path, NEW)), Reloaded)
    wanted = ("eth0", "eth1", "eth0")
    assert serving.change_set(ChangeSet(set="s", change=Change.ADD, elements=wanted)) == Changed(count=3)
    (state,) = serving.sets().sets
    assert (state.name, state.type, state.added, state.file) == ("s", "string", 2, 0)
    found = serving.elements("s")
    assert not isinstance(found, Refused)
    assert [(each.element, each.added, each.seconds) for each in found] == [("eth0", True, None), ("eth1", True, None)]
    gone = serving.change_set(ChangeSet(set="s", change=Change.DELETE, elements=("eth0", "eth9")))
    assert gone == Changed(count=1, absent=("eth9",))
    assert serving.change_set(ChangeSet(set="s", change=Change.FLUSH)) == Changed(count=1)
    half = serving.change_set(ChangeSet(set="s", change=Change.ADD, elements=("eth5", "\\")))
    assert isinstance(half, Refused)
    assert serving.sets().sets[0].added == 0, "all or nothing"
    assert serving.elements("t") == Refused(problem="set 't': expected one of s")
    assert serving.change_set(ChangeSet(set="t", change=Change.FLUSH)) == Refused(problem="set 't': expected one of s")

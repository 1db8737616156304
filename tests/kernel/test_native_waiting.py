"""Packets that wait for Python while others overtake them: order, deadline, overload, errors, and the end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

import qfilter
from qfilter import _native
from qfilter.compiler import encode, portable_plan
from qfilter.control.messages import Reloaded
from qfilter.daemon import Service, prepare, threads
from qfilter.model.verdict import Reason
from qfilter.policy.load import loads
from qfilter.queues.native import NativeQueues, Question
from tests.kernel.nfqueue import rules
from tests.kernel.running import Kept, PolicyFile, in_force, is_installed
from tests.lab.process import wait_until
from tests.lab.servers import UdpServer, udp_counter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("nfqueue", "iptables-legacy")

PLAIN, ASKED = 7, 9
POLICY = """version: 1
default: {forward: drop}
queue: {backend: iptables-legacy, length: 8}
rules:
  - {id: plain, match: {dport: 7}, verdict: accept}
  - {id: asked, match: {dport: 9, python: test.gate}, log: true, verdict: accept}
  - {id: denied, match: {dport: 9}, log: true, verdict: drop}
"""


class Gate:
    """A predicate that answers when the test says what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self._told: dict[str, bool | BaseException] = {}
        self._open = False
        self._changed = threading.Condition()

    def __call__(self, packet: qfilter.Packet) -> bool:
        word = word_of(packet.data)
        with self._changed:
            self.asked.append(word)
            self._changed.wait_for(lambda: self._open or word in self._told)
            answer = self._told.get(word, False)
            self.answered.append(word)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def tell(self, answer: bool | BaseException, *words: str) -> None:
        with self._changed:
            self._told |= dict.fromkeys(words, answer)
            self._changed.notify_all()

    def wait_for(self, *words: str) -> None:
        """Until these have been asked about, in any order."""
        wait_until(lambda: set(words) <= set(self.asked), f"{words} should be asked about")

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()


GATES = [Gate()]


@qfilter.predicate("test.gate")
def is_let_through(packet: qfilter.Packet) -> bool:
    return GATES[-1](packet)


@pytest.fixture
def gate() -> Iterator[Gate]:
    GATES.append(Gate())
    yield GATES[-1]
    GATES.pop().open()


@pytest.fixture
def world(lab: Lab) -> Lab:
    rules(lab.gateway, "FORWARD -p udp -j NFQUEUE")
    return lab


def word_of(data: bytes) -> str:
    """What `say` said in a datagram."""
    return data[{4: 28, 6: 48}[data[0] >> 4] :].decode()


def say(lab: Lab, port: int, words: Sequence[str], *, source: int = 0, family: int = 4) -> None:
    """One datagram a word, all of one flow."""
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}[family]
    with lab.client.new_socket(kind, socket.SOCK_DGRAM) as sender:
        sender.bind(("", source))
        for word in words:
            sender.sendto(word.encode(), (lab.server.address(family), port))


def heard(server: UdpServer, count: int) -> list[str]:
    assert server.collect(count) == count
    return [datagram.payload.decode() for datagram in server.received]


def packets(service: Service) -> dict[str, int]:
    """Of each rule and each cause that has any."""
    report = service.report()
    found = {row.rule: row.tally.packets for row in report.rules}
    found |= {str(cause): row.tally.packets for cause, row in report.causes.items()}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("family", [4, 6])
def test_others_overtake_and_a_flow_keeps_its_order(world: Lab, gate: Gate, family: int) -> None:
    first, second = ["a0", "a1", "a2", "a3"], ["b0", "b1"]
    text = POLICY.replace("length: 8", "length: 100")
    with (
        udp_counter(world.server, PLAIN) as plain,
        udp_counter(world.server, ASKED) as asked,
        in_force(world.gateway, text) as service,
    ):
        say(world, ASKED, first, source=4001, family=family)
        gate.wait_for("a0")
        say(world, ASKED, second, source=4002, family=family)
        gate.wait_for("b0")
        say(world, PLAIN, [str(number) for number in range(50)], family=family)
        assert plain.collect(50) == 50
        assert asked.received == []
        assert gate.asked == ["a0", "b0"], "the others of a flow are judged after its first"
        gate.tell(True, *second)
        assert heard(asked, 2) == second
        gate.tell(True, "a3", "a2", "a1", "a0")
        assert heard(asked, 6) == [*second, *first]
        assert packets(service) == {"plain": 50, "asked": 6}
        counters = service.queues[0].counters
    assert (counters.received, counters.accepted, counters.dropped, counters.failures) == (56, 56, 0, {})


def test_an_answer_of_no_goes_on_with_the_next_rule(world: Lab, gate: Gate) -> None:
    gate.tell(True, "yes")
    gate.tell(False, "no")
    kept = Kept()
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, POLICY, kept=kept) as service:
        say(world, ASKED, ["no", "yes", "no", "yes"])
        assert heard(asked, 2) == ["yes", "yes"]
        assert packets(service) == {"asked": 2, "denied": 2}
        told = kept.wait_for("verdict", 4)
    assert [(event["rule"], event["verdict"]) for event in told] == [("denied", "drop"), ("asked", "accept")] * 2


OUTCOMES = pytest.mark.parametrize("outcome", ["drop", "accept"])


@OUTCOMES
def test_the_deadline_has_its_outcome_while_the_predicate_hangs(world: Lab, gate: Gate, outcome: str) -> None:
    passed = ["late"] if outcome == "accept" else []
    text = POLICY.replace("length: 8", "length: 8, deadline: 300ms") + f"on_failure: {{deadline: {outcome}}}\n"
    kept = Kept()
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text, kept=kept) as service:
        say(world, ASKED, ["late"], source=4001)
        (event,) = kept.wait_for("failure", 1)
        assert heard(asked, len(passed)) == passed
        assert (gate.asked, gate.answered) == (["late"], [])
        assert {key: event[key] for key in ("verdict", "reason", "detail", "rule", "sport")} == {
            "verdict": outcome,
            "reason": "deadline",
            "detail": "no answer for rule asked",
            "rule": "asked",
            "sport": 4001,
        }
        gate.tell(True, "late", "next")
        say(world, ASKED, ["next"], source=4001)
        assert heard(asked, len(passed) + 1) == [*passed, "next"], "the late answer changes nothing"
        assert packets(service) == {"asked": 1, "deadline": 1}
        wait_until(lambda: service.queues[0].counters.late_answers == 1, "the late answer should be counted")
        counters = service.queues[0].counters
    assert (counters.received, counters.accepted, counters.dropped) == (2, 1 + len(passed), 1 - len(passed))
    assert counters.failures == {Reason.DEADLINE: 1}
    rows = kept.of("stop")[0]["queues"]
    assert isinstance(rows, Sequence)
    (row,) = rows
    assert (row["failures"], row["late_answers"], row["panics"]) == ({"deadline": 1}, 1, 0)


@OUTCOMES
@pytest.mark.parametrize("flows", [1, 6])
def test_overload_when_the_waiting_room_is_full(world: Lab, gate: Gate, outcome: str, flows: int) -> None:
    """Half of queue.length may wait: 4 of 6, be they of one flow or of many."""
    words = [f"{number}" for number in range(6)]
    text = f"{POLICY}on_failure: {{overload: {outcome}}}\n"
    kept = Kept()
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text, kept=kept) as service:
        for number, word in enumerate(words):
            say(world, ASKED, [word], source=4001 + number % flows)
        told = kept.wait_for("failure", 2)
        assert {(event["verdict"], event["reason"]) for event in told} == {(outcome, "overload")}
        passed = words[4:] if outcome == "accept" else []
        assert heard(asked, len(passed)) == passed
        gate.tell(True, *words)
        assert sorted(heard(asked, len(passed) + 4)) == sorted([*passed, *words[:4]])
        assert packets(service)["asked"] == 4
        assert service.queues[0].counters.failures == {Reason.OVERLOAD: 2}
        say(world, ASKED, ["0"])
        assert heard(asked, len(passed) + 5)[-1] == "0", "there is room again"


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt])
@OUTCOMES
def test_a_predicate_that_raises(world: Lab, gate: Gate, outcome: str, raised: type[BaseException]) -> None:
    gate.tell(raised("no idea"), "bad")
    gate.tell(True, "good")
    kept = Kept()
    text = f"{POLICY}on_failure: {{error: {outcome}}}\n"
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text, kept=kept) as service:
        say(world, ASKED, ["bad", "good"])
        expected = ["bad", "good"] if outcome == "accept" else ["good"]
        assert heard(asked, len(expected)) == expected
        (event,) = kept.wait_for("failure", 1)
        assert packets(service) == {"asked": 1, "error": 1}
        assert not service.failed
    assert (event["verdict"], event["reason"], event["rule"]) == (outcome, "error", "asked")
    assert f"{raised.__name__}: no idea" in str(event["detail"])


def test_who_hangs_keeps_nobody_elses_answer_back(world: Lab, gate: Gate) -> None:
    """As many questions at once as a batch has, and one of the answerers is lost to the first."""
    words = [f"{number}" for number in range(20)]
    gate.tell(True, *words)
    with (
        udp_counter(world.server, ASKED) as asked,
        in_force(world.gateway, POLICY.replace("length: 8", "length: 100")) as service,
    ):
        say(world, ASKED, ["hangs"])
        for word in words:
            say(world, ASKED, [word])
        assert sorted(heard(asked, 20)) == sorted(words)
        gate.tell(False, "hangs")
        wait_until(lambda: packets(service) == {"asked": 20, "denied": 1}, "the one that hung should be decided")


def test_what_waits_when_it_stops_gets_its_answer(lab: Lab, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are gone by then; one after the other is asked about while the queues wait for the answers."""
    words = [f"{number}" for number in range(4)]
    stop = NativeQueues.stop

    def stop_and_tell(queues: NativeQueues, patience: float) -> None:
        teller = threading.Thread(target=tell_one_by_one, args=(gate, words))
        teller.start()
        stop(queues, patience)
        teller.join()

    with udp_counter(lab.server, ASKED) as asked, in_force(lab.gateway, POLICY, install=True) as service:
        say(lab, ASKED, words)
        gate.wait_for("0")
        monkeypatch.setattr(NativeQueues, "stop", stop_and_tell)
        service.close()
        monkeypatch.undo()
        assert heard(asked, 4) == words
        assert packets(service) == {"asked": 4}
    assert lab.gateway.queues() == {}


def tell_one_by_one(gate: Gate, words: Sequence[str]) -> None:
    for word in words:
        gate.wait_for(word)
        gate.tell(True, word)


def test_an_answer_is_not_kept_back_by_the_questions_behind_it(world: Lab, gate: Gate) -> None:
    """All answerers are busy until three questions are there at once: the first is quick, the others hang."""
    busy = [f"busy {number}" for number in range(threads.ANSWERERS)]
    hanging = [f"hangs {number}" for number in range(threads.ANSWERERS)]
    gate.tell(True, "quick")
    text = POLICY.replace("length: 8", "length: 100")
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text) as service:
        for word in busy:
            say(world, ASKED, [word])
        gate.wait_for(*busy)
        for word in ["quick", *hanging]:
            say(world, ASKED, [word])
        wait_until(lambda: world.gateway.queues()[0].waiting == len(busy) + 3, "all should wait")
        gate.tell(False, *busy)
        gate.wait_for(*hanging)
        assert heard(asked, 1) == ["quick"]
        assert not set(hanging) & set(gate.answered)
        gate.tell(False, *hanging)
        wait_until(lambda: packets(service) == {"asked": 1, "denied": 4}, "those that hung should be decided")


@pytest.mark.needs("live-rename")
def test_who_waits_keeps_the_interfaces_that_it_came_by(world: Lab, gate: Gate) -> None:
    """And whoever came behind it before the interface was renamed."""
    text = POLICY.replace("match: {dport: 9, python: test.gate}", "match: {iifname: lan, dport: 9, python: test.gate}")
    text = text.replace("match: {dport: 7}", "match: {dport: 7}, log: true")
    kept = Kept()
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text, kept=kept) as service:
        say(world, ASKED, ["first", "behind"])
        gate.wait_for("first")
        wait_until(lambda: world.gateway.queues()[0].waiting == 2, "both should wait")
        world.gateway.ip("link set lan name renamed")
        wait_until(lambda: is_known_as(world, kept, "renamed"), "the new name should be known")
        gate.tell(True, "first", "behind")
        assert heard(asked, 2) == ["first", "behind"]
        assert packets(service)["asked"] == 2
        told = [event for event in kept.of("verdict") if event["rule"] == "asked"]
    assert [event["iifname"] for event in told] == ["lan", "lan"]


def is_known_as(lab: Lab, kept: Kept, name: str) -> bool:
    """Whether the packets that come now have come by that interface."""
    before = len(kept.of("verdict"))
    say(lab, PLAIN, ["?"])
    return kept.wait_for("verdict", before + 1)[-1]["iifname"] == name


def test_an_answer_that_never_comes_keeps_nobody_from_stopping(
    lab: Lab, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_DRAIN", 0.1)
    kept = Kept()
    with udp_counter(lab.server, ASKED) as asked:
        with in_force(lab.gateway, POLICY, install=True, kept=kept) as service:
            say(lab, ASKED, ["never", "behind"])
            gate.wait_for("never")
            service.close()
            assert packets(service) == {"deadline": 1 + 1}
        assert heard(asked, 0) == []
    assert lab.gateway.queues() == {}
    assert [event["reason"] for event in kept.of("failure")] == ["deadline", "deadline"]
    assert kept.events[-1]["type"] == "stop"


def test_who_waits_goes_on_with_the_policy_that_it_met(world: Lab, gate: Gate, policy_file: PolicyFile) -> None:
    other = policy_file(POLICY.replace("dport: 9, python: test.gate", "dport: 1"))
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, POLICY) as service:
        say(world, ASKED, ["old", "new"], source=4444)
        gate.wait_for("old")
        outcome = service.reload(str(other))
        assert isinstance(outcome, Reloaded)
        say(world, ASKED, ["newer"], source=4444)
        gate.tell(True, "old", "new")
        assert heard(asked, 2) == ["old", "new"]
        wait_until(lambda: packets(service) == {"asked": 2, "denied": 1}, "all should be decided")
    assert gate.asked == ["old", "new"], "who stands behind too"


def test_a_question_is_about_the_rules_of_its_own_policy_however_late(
    world: Lab, gate: Gate, policy_file: PolicyFile
) -> None:
    """Nobody has time for it while ten policies come whose rule in that place matches it."""
    other = policy_file(POLICY.replace("python: test.gate", "ttl: {gt: 1}"))
    text = POLICY.replace("length: 8", "length: 100")
    hanging = [f"hangs {number}" for number in range(threads.ANSWERERS)]
    gate.tell(False, "late")
    with udp_counter(world.server, ASKED) as asked, in_force(world.gateway, text) as service:
        for word in hanging:
            say(world, ASKED, [word])
        gate.wait_for(*hanging)
        say(world, ASKED, ["late"])
        for _ in range(10):
            assert isinstance(service.reload(str(other)), Reloaded)
        say(world, ASKED, ["new"])
        assert heard(asked, 1) == ["new"]
        gate.tell(True, *hanging)
        assert sorted(heard(asked, 3)) == [*hanging, "new"]
        wait_until(lambda: packets(service) == {"asked": 3, "denied": 1}, "the late one should be decided")
    assert gate.asked[-1] == "late"


REJECTED = POLICY.replace(
    "python: test.gate}, log: true, verdict: accept", "python: test.gate}, log: true, verdict: reject"
)


def test_who_is_rejected_at_the_end_is_dropped(lab: Lab, gate: Gate) -> None:
    """The kernel rules are gone by then: repeated, it would pass."""
    kept = Kept()
    with udp_counter(lab.server, ASKED) as asked:
        with in_force(lab.gateway, REJECTED, install=True, kept=kept) as service:
            say(lab, ASKED, ["late"])
            gate.wait_for("late")
            closing = threading.Thread(target=service.close)
            closing.start()
            wait_until(lambda: not is_installed(lab.gateway), "the rules should go")
            gate.tell(True, "late")
            closing.join()
            counters = service.queues[0].counters
        assert heard(asked, 0) == []
    assert (counters.repeated, counters.dropped) == (0, 1)
    assert [event["verdict"] for event in kept.of("verdict")] == ["reject port-unreachable"]


@pytest.mark.parametrize(
    "other",
    [
        POLICY.replace("python: test.gate}, log: true", "ttl: {gt: 1}}"),
        REJECTED.replace("length: 8", "length: 8, exempt: [established]"),
        REJECTED.replace("forward: drop", "input: accept"),
    ],
    ids=["nothing is rejected", "some are exempt", "the hook is no longer filtered"],
)
def test_who_waited_and_is_rejected_after_a_reload_is_dropped(
    lab: Lab, gate: Gate, policy_file: PolicyFile, other: str
) -> None:
    """By a chain that is not the one of its policy."""
    kept = Kept()
    text = REJECTED.replace("forward: drop", "forward: drop, input: accept")
    with udp_counter(lab.server, ASKED) as asked, in_force(lab.gateway, text, install=True, kept=kept) as service:
        say(lab, ASKED, ["late"])
        gate.wait_for("late")
        assert isinstance(service.reload(str(policy_file(other))), Reloaded)
        gate.tell(True, "late")
        (event,) = kept.wait_for("verdict", 1)
        assert heard(asked, 0) == []
        assert (event["verdict"], len(kept.of("verdict"))) == ("reject port-unreachable", 1)
        assert service.queues[0].counters.dropped == 1


@pytest.fixture
def served(world: Lab) -> Iterator[NativeQueues]:
    """The queues of a policy without a service: the test answers what they ask."""
    with world.gateway.entered():
        plan = prepare(loads(POLICY, "policy.yaml"), install=False)
        queues = NativeQueues.open(plan, _native.Engine(encode(portable_plan(plan.policy)), None))
        queues.start()
        yield queues
        queues.stop(0.0)


def asked_next(served: NativeQueues) -> Question:
    (question,) = served.questions(1, 5.0)
    return question


def test_answers_with_a_mistake_among_them_are_all_given_again(world: Lab, served: NativeQueues) -> None:
    with udp_counter(world.server, ASKED) as asked:
        for word in ["one", "two"]:
            say(world, ASKED, [word])
        first, second = (asked_next(served).ticket for _ in range(2))
        with pytest.raises(ValueError, match=r"^cause 99: there are \d+$"):
            served.answer([(0, first, False, ""), (0, second, 99, "")])
        with pytest.raises(ValueError, match=r"^queue 7: expected one that is served$"):
            served.answer([(7, first, False, ""), (0, second, True, "")])
        assert heard(asked, 1) == ["two"], "the other queues have theirs"
        served.answer([(0, first, True, ""), (0, second, True, "")])
        assert heard(asked, 2) == ["two", "one"], "the first answer to it was not given"
        wait_until(lambda: served.each[0].counters.late_answers == 1, "the last should be late")

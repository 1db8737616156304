"""What cannot be done, and where the message points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qfilter.compiler import compile_policy
from qfilter.compiler.limits import KINDS
from qfilter.errors import PolicyError
from qfilter.model.hook import Hook
from qfilter.model.plan import Capabilities
from qfilter.model.policy import Policy, QueueSettings, Target
from qfilter.model.rule import AllOf, Limit, NotOf, SetMark, SetOperation, UpdateSet
from qfilter.model.verdict import Decision, Kind, Reason
from tests.unit.compiler.policies import MACHINE, at, field, policy, python, reject, rule

IP_QUEUE = replace(MACHINE, ip_queue=True)
NO_UID = replace(MACHINE, unreadable=frozenset({"uid"}))
NO_FAIL_OPEN = replace(MACHINE, fail_open=False)
ONE = QueueSettings(target=Target.QUEUE)
PATH = (Hook.PREROUTING, Hook.INPUT, Hook.POSTROUTING)
REJECT_HOOKS = "the kernel rejects only at input, forward and output, expected drop or a hook of these"


@pytest.mark.parametrize(
    ("of", "machine", "said"),
    [
        (
            policy(rule(5, verdict=reject()), defaults=PATH),
            MACHINE,
            [f"p.yaml:5:3: error: reject port-unreachable at prerouting and postrouting: {REJECT_HOOKS}"],
        ),
        (
            policy(rule(5, verdict=None, hooks=(Hook.PREROUTING,), rules=(rule(6, verdict=reject()),)), defaults=PATH),
            MACHINE,
            [f"p.yaml:6:3: error: reject port-unreachable at prerouting: {REJECT_HOOKS}"],
        ),
        (
            policy(defaults={Hook.POSTROUTING: reject()}),
            MACHINE,
            [f"p.yaml:2:3: error: reject port-unreachable at postrouting: {REJECT_HOOKS}"],
        ),
        (
            policy(rule(5, match=AllOf((field("saddr", 6), NotOf(field("uid", 7)))))),
            NO_UID,
            ["p.yaml:7:12: error: field 'uid': no packet from this queue carries it"],
        ),
        (
            policy(
                rule(5, limit=Limit(1, 1, 1, per=("uid",))),
                rule(8, actions=(UpdateSet(SetOperation.ADD, "users", "uid"),)),
                rule(9, match=python(9, 20, needs=("saddr", "uid"))),
            ),
            NO_UID,
            [
                "p.yaml:5:3: error: field 'uid': no packet from this queue carries it",
                "p.yaml:8:3: error: field 'uid': no packet from this queue carries it",
                "p.yaml:9:20: error: field 'uid': no packet from this queue carries it",
            ],
        ),
        (
            policy(
                rule(5, verdict=reject()),
                rule(6, verdict=None, actions=(SetMark(1, 1),)),
                rule(7, verdict=Decision(Kind.QUEUE, queue=3)),
                defaults={Hook.INPUT: reject()},
            ),
            IP_QUEUE,
            [
                "p.yaml:5:3: error: reject port-unreachable: ip_queue's verdicts carry no mark, use target nfqueue",
                "p.yaml:6:3: error: mark: ip_queue's verdicts carry no mark, use target nfqueue",
                "p.yaml:7:3: error: queue 3: ip_queue's verdicts carry no queue number, use target nfqueue",
                "p.yaml:2:3: error: reject port-unreachable: ip_queue's verdicts carry no mark, use target nfqueue",
            ],
        ),
        (
            policy(
                queue=replace(ONE, first=2, last=3, cpu_fanout=True),
                on_failure={Reason.NO_LISTENER: Kind.ACCEPT},
                settings={"queue.number": at(20, 10), "on_failure.no_listener": at(30, 16)},
            ),
            MACHINE,
            [
                "p.yaml:20:10: error: queues 2 to 3: target queue is always queue 0, use target nfqueue",
                "p.yaml:1:1: error: cpu_fanout: target queue has one queue, use target nfqueue",
                "p.yaml:30:16: error: no_listener accept: target queue cannot be bypassed, use target nfqueue",
            ],
        ),
        (
            policy(
                rule(5, verdict=Decision(Kind.QUEUE, queue=1)),
                rule(6, verdict=Decision(Kind.QUEUE, queue=2)),
                queue=QueueSettings(first=0, last=1),
            ),
            MACHINE,
            ["p.yaml:5:3: error: queue 1: this policy's own queue, expected another, or another queue.number"],
        ),
        (
            policy(on_failure={Reason.QUEUE_FULL: Kind.ACCEPT}, settings={"on_failure.queue_full": at(31, 15)}),
            NO_FAIL_OPEN,
            ["p.yaml:31:15: error: queue_full accept: this queue's consumer cannot set fail-open, expected drop"],
        ),
    ],
)
def test_every_mistake_is_said_at_once_where_it_stands(of: Policy, machine: Capabilities, said: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_policy(of, machine)
    assert list(map(str, caught.value.diagnostics)) == said
    assert {each.kind for each in caught.value.diagnostics} <= KINDS.keys()


@pytest.mark.parametrize(
    "of",
    [
        policy(rule(5, verdict=reject(), hooks=(Hook.INPUT,)), defaults=PATH),
        policy(rule(5, verdict=reject(), hooks=(Hook.POSTROUTING,))),
        policy(queue=ONE),
        policy(on_failure={Reason.QUEUE_FULL: Kind.ACCEPT}),
    ],
)
def test_what_can_be_done_compiles(of: Policy) -> None:
    assert compile_policy(of, MACHINE).policy is of


def test_the_same_mistakes_are_found_when_nothing_is_installed() -> None:
    with pytest.raises(PolicyError):
        compile_policy(policy(rule(5, verdict=reject()), defaults=PATH), MACHINE, install=False)

"""What another policy means otherwise, what needs a restart, and the kernel rules in between."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qfilter.compiler import compile_policy
from qfilter.control.changes import between, changes, first_step, needs_restart
from qfilter.model.hook import Hook
from qfilter.model.plan import Capabilities, KernelRules, Plan
from qfilter.model.policy import Backend, Exempt, Target
from qfilter.model.verdict import RejectWith
from qfilter.policy.load import loads

TEXT = """version: 1
default: {input: drop, forward: accept}
queue: {number: 4}
sets:
  bad: {type: address, elements: [198.51.100.7]}
rules:
  - {id: bad, match: {saddr: $bad}, verdict: drop}
  - {id: in, match: {protocol: udp}, rules: [{id: a, match: {dport: 9}, verdict: accept}]}
  - {id: out, match: {protocol: tcp}, verdict: accept}
"""
ABLE = Capabilities(backends={Backend.IPTABLES_NFT: frozenset(Target), Backend.NFT: frozenset(Target)})


def plan(old: str = "", new: str = "", *, install: bool = True) -> Plan:
    return compile_policy(loads(TEXT.replace(old, new, 1), "p.yaml"), ABLE, install=install)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", "", []),
        ("version: 1\n", "# a comment\nversion: 1\n", []),
        ("input: drop", "input: reject", ["default input reject port-unreachable, was drop"]),
        (
            "forward: accept",
            "output: accept",
            [
                "forward: no longer filtered, default was accept",
                "default output accept, was nothing",
            ],
        ),
        ("version: 1\n", "version: 1\non_failure: {error: accept}\n", ["on_failure error accept, was drop"]),
        ("version: 1\n", "version: 1\nallow: [tcp-flags]\n", ["allow tcp-flags, was nothing"]),
        (
            "number: 4",
            "number: 4, length: 9, exempt: [lo]",
            ["queue.length 9, was 1024", "queue.exempt lo, was nothing"],
        ),
        ("[198.51.100.7]", "[198.51.100.8]", ["set bad changed"]),
        ("id: out", "id: up", ["rule out removed", "rule up added"]),
        ("dport: 9", "dport: 10", ["rule a changed"]),
        (
            "dport: 9}, verdict: accept}",
            "dport: 9}, verdict: accept}, {id: b, verdict: drop}",
            ["rule in changed", "rule b added"],
        ),
    ],
)
def test_a_change_is_a_line(old: str, new: str, lines: list[str]) -> None:
    found = changes(loads(TEXT, "p.yaml"), loads(TEXT.replace(old, new, 1), "p.yaml"))
    assert sorted(found) == sorted(lines)


def test_another_order_and_another_file() -> None:
    *head, last = TEXT.splitlines(keepends=True)
    moved = "".join((*head[:-2], last, *head[-2:]))
    assert changes(loads(TEXT, "p.yaml"), loads(moved, "q.yaml")) == (
        "file q.yaml, was p.yaml",
        "rules stand in another order",
    )


def test_of_many_changes_the_number_is_told() -> None:
    more = "".join(f"  - {{id: r{n}, match: {{protocol: udp, sport: {n}}}, count: n}}\n" for n in range(1, 61))
    found = changes(loads(TEXT, "p.yaml"), loads(TEXT + more, "p.yaml"))
    assert (len(found), found[0], found[-1]) == (51, "rule r1 added", "and 10 more")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("number: 4", "number: 5", "p.yaml:3:17: error: queue.number 5: the service runs with 4, expected the same"),
        ("number: 4", "number: 4-5", "queue.number 4-5: the service runs with 4"),
        ("queue: {number: 4}\n", "", "p.yaml:1:1: error: queue.number 0: the service runs with 4"),
        ("number: 4", "number: 4, backend: nft", "queue.backend nft: the service runs with auto"),
        ("input: drop, forward: accept", "output: accept", "p.yaml:2:19: error: hooks output: the service runs with"),
    ],
)
def test_what_needs_a_restart(old: str, new: str, said: str) -> None:
    (found,) = needs_restart(plan(), plan(old, new))
    assert said in str(found)


def test_the_bits_of_the_mark_are_held_only_by_two_policies_that_reject() -> None:
    rejecting, moved = "verdict: drop", "verdict: reject"
    other = compile_policy(
        loads(TEXT.replace(rejecting, moved, 1).replace("number: 4", "number: 4, mark_mask: 0xf0000"), "p.yaml"), ABLE
    )
    assert needs_restart(plan(), other) == ()
    assert needs_restart(other, plan()) == ()
    (found,) = needs_restart(plan(rejecting, moved), other)
    assert "queue.mark_mask 0xf0000: the service runs with 0xf0000000" in str(found)


def test_hooks_are_the_operators_own_without_kernel_rules() -> None:
    assert (
        needs_restart(plan(install=False), plan("input: drop, forward: accept", "output: accept", install=False)) == ()
    )


def rules(**values: object) -> KernelRules:
    return KernelRules(backend=Backend.NFT, target=Target.NFQUEUE, **values)  # type: ignore[arg-type]  # each test's own


def test_the_step_between_is_right_for_both() -> None:
    old = rules(hooks=(Hook.INPUT, Hook.FORWARD), rejects=(RejectWith.NO_ROUTE,), mark_mask=0xF000)
    new = rules(
        hooks=(Hook.FORWARD, Hook.OUTPUT), rejects=(RejectWith.TCP_RESET,), mark_mask=0xF000, exempt=(Exempt.LO,)
    )
    between = rules(
        hooks=(Hook.FORWARD,),
        rejects=(RejectWith.TCP_RESET, RejectWith.NO_ROUTE),
        mark_mask=0xF000,
        exempt=(Exempt.LO,),
    )
    assert first_step(old, new) == between
    assert first_step(new, new) == new
    calm = rules(hooks=(Hook.FORWARD,))
    assert first_step(old, calm) == rules(hooks=(Hook.FORWARD,), rejects=(RejectWith.NO_ROUTE,), mark_mask=0xF000)
    assert first_step(calm, old) == rules(hooks=(Hook.FORWARD,), rejects=(RejectWith.NO_ROUTE,), mark_mask=0xF000)


def test_between_two_policies_packets_come_as_either_wants_them() -> None:
    less = "number: 4, length: 300, copy_range: 200, deadline: 2s, socket_buffer: 1000000"
    more = "number: 4, length: 500, copy_range: 900, deadline: 3s, socket_buffer: 2000000"
    small, large = plan("number: 4", less), plan("number: 4", more)
    tracking = replace(small, conntrack=True, fail_open=True)
    for old, new, deadline in [(tracking, large, 2.0), (large, tracking, 3.0)]:
        asked = between(old, new)
        settings = asked.policy.queue
        assert (asked.copy_range, asked.conntrack, asked.fail_open) == (900, True, False)
        assert (settings.length, settings.deadline, settings.socket_buffer) == (500, deadline, 2_000_000)
        assert asked.kernel == new.kernel
    assert between(tracking, tracking) == tracking
    assert between(small, plan()).policy.queue.socket_buffer is None


def test_ip_queue_cannot_change_how_much_it_copies() -> None:
    old = replace(plan(), ip_queue=True)
    (found,) = needs_restart(old, replace(old, copy_range=old.copy_range + 1))
    assert (found.kind, found.message.partition(":")[0]) == ("restart", f"queue.copy_range {old.copy_range + 1}")
    assert needs_restart(old, old) == ()

"""Tests inside policies: what comes before the packet, how often it comes, and what a failure says."""

from __future__ import annotations

import pytest

from qfilter.engine.clock import Clock
from qfilter.engine.selftest import run_tests
from qfilter.policy.load import loads

POLICY = """
version: 1
default: {input: drop, output: drop}
sets: {bad: {type: address, dynamic: true, timeout: 10m}}
rules:
  - {id: known, match: {saddr: $bad}, verdict: drop}
  - id: flood
    match: {protocol: tcp}
    limit: {rate: 1000000/second, burst: 3, per: saddr, over: true}
    add: {set: bad, element: saddr}
    verdict: drop
  - {id: tcp, match: {protocol: tcp}, verdict: accept}
  - {id: asks, hook: output, match: {protocol: udp}, scope: flow, verdict: accept}
tests: [%s]
"""
TCP = "{hook: input, saddr: 192.0.2.1, protocol: tcp}"
QUESTION = "{hook: output, saddr: 192.0.2.9, sport: 4000, daddr: 192.0.2.1, dport: 53, protocol: udp}"
ANSWER = "{hook: input, saddr: 192.0.2.1, sport: 53, daddr: 192.0.2.9, dport: 4000, protocol: udp}"


def problems(test: str, clock: Clock | None = None) -> list[str]:
    return [result.problem for result in run_tests(loads(POLICY % test), clock=clock).results]


@pytest.mark.parametrize(
    "test",
    [
        f"{{packet: {TCP}, times: 3, expect: accept, by: tcp}}",
        f"{{packet: {TCP}, times: 4, expect: drop, by: flood}}",
        f"{{packet: {TCP}, times: 5, expect: drop, by: known}}",
        f"{{after: [{QUESTION}], packet: {ANSWER}, expect: accept, by: asks}}",
        f"{{packet: {ANSWER}, expect: drop, by: default}}",
        f"{{after: [{TCP}, {TCP}, {TCP}], packet: {TCP}, expect: drop, by: flood}}",
        f"{{after: [{TCP}, {TCP}], packet: {TCP}, times: 2, expect: drop, by: flood}}",
    ],
)
def test_what_came_before_counts(test: str) -> None:
    assert problems(test) == [""]


def test_each_test_starts_anew() -> None:
    once = f"{{packet: {TCP}, times: 3, expect: accept, by: tcp}}"
    assert problems(f"{once}, {once}") == ["", ""]


def test_time_stands_still_within_a_test() -> None:
    seconds = iter(range(1_000))
    clock = Clock(monotonic=lambda: next(seconds) * 1_000_000_000)
    assert problems(f"{{packet: {TCP}, times: 4, expect: drop, by: flood}}", clock) == [""]


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (
            f"{{packet: {TCP}, times: 4, expect: accept}}",
            "expected accept, got drop by flood at <policy>:7:5",
        ),
        (
            f"{{packet: {TCP}, expect: accept, by: asks}}",
            "expected accept by asks, got accept by tcp at <policy>:12:5",
        ),
        (
            f"{{after: [{{hook: input, dport: 1}}], packet: {TCP}, expect: accept}}",
            "dport: expected a protocol too, one of tcp, udp, dccp, sctp, udplite",
        ),
    ],
)
def test_a_failure_says_what_was_expected_and_what_came(test: str, problem: str) -> None:
    assert problems(test) == [problem]


def test_rules_that_only_the_packets_before_matched_count_as_tested() -> None:
    policy = loads(POLICY % f"{{after: [{QUESTION}], packet: {ANSWER}, expect: accept}}")
    assert [rule.id for rule in run_tests(policy).untested] == ["known", "flood", "tcp"]

"""Which flows go on: only those that the new policy would have decided alike."""

from __future__ import annotations

import pytest

from qfilter.control.heritage import kept_flows
from qfilter.policy.load import loads

TEXT = """version: 1
default: {input: drop}
define: {far: 203.0.113.0/24}
sets:
  bad: {type: address, elements: [198.51.100.7]}
  seen: {type: address, dynamic: true, timeout: 5m}
  last: {type: port, elements: [1]}
rules:
  - {id: bad, match: {any: [{saddr: $bad}, {not: {daddr: 192.0.2.0/24}}]}, verdict: drop}
  - {id: seen, match: {saddr: $seen, sport: 7}, verdict: drop}
  - id: inside
    match: {protocol: udp}
    rules:
      - {id: early, match: {dport: 9}, limit: {rate: 5/second}, verdict: accept, scope: flow}
      - {id: plain, match: {saddr: $far}, verdict: accept}
  - {id: late, match: {protocol: tcp}, verdict: accept, scope: flow}
  - {id: after, match: {dport: $last}, verdict: drop}
"""


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("", "", {"early": 14, "late": 16}),
        # what no packet of a flow could have met
        ("default: {input: drop}", "default: {input: accept}", {"early": 14, "late": 16}),
        ("elements: [1]", "elements: [2]", {"early": 14, "late": 16}),
        ("id: after", "id: behind", {"early": 14, "late": 16}),
        ("timeout: 5m", "timeout: 6m", {"early": 14, "late": 16}),
        ("rules:\n  - {id: bad", "rules:\n\n  # moved\n  - {id: bad", {"early": 16, "late": 18}),
        # what one could have met, at the rule or before it
        ("far: 203.0.113.0/24", "far: 203.0.113.0/25", {"early": 14}),
        ("protocol: tcp}, verdict: accept", "protocol: tcp}, log: true, verdict: accept", {"early": 14}),
        ("rate: 5/second", "rate: 6/second", {}),
        ("dport: 9}", "dport: 10}", {}),
        ("{protocol: udp}", "{protocol: [udp, sctp]}", {}),
        ("[198.51.100.7]", "[198.51.100.8]", {}),
        ("daddr: 192.0.2.0/24", "daddr: 192.0.3.0/24", {}),
        ("timeout: 5m", "timeout: 5m, elements: [192.0.2.99]", {}),
        ("rules:\n  - {id: bad", "rules:\n  - {id: first, match: {dport: 99}, count: n}\n  - {id: bad", {}),
        ("version: 1\n", "version: 1\nallow: [tcp-flags]\n", {}),
        ("version: 1\n", "version: 1\nqueue: {deadline: 1s}\n", {}),
        # the same rules on another level
        ("      - {id: plain", "  - {id: plain", {"early": 14}),
    ],
)
def test_a_change(old: str, new: str, kept: dict[str, int]) -> None:
    after = loads(TEXT.replace(old, new, 1), "new.yaml")
    found = kept_flows(loads(TEXT, "old.yaml"), after)
    assert {rule: (at.file, at.line) for rule, at in found.items()} == {
        rule: ("new.yaml", line) for rule, line in kept.items()
    }


def test_python_may_have_changed() -> None:
    text = TEXT.replace(
        "{id: seen, match: {saddr: $seen, sport: 7}", "{id: seen, match: {saddr: $seen, python: re:compile}"
    )
    policy = loads(text)
    assert kept_flows(policy, policy) == {}

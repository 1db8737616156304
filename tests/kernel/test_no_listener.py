"""The cause `no_listener`: rules stand and nobody holds the queue. The kernel alone gives it its outcome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.clients import QUICK, Outcome, ping
from tests.lab.service import READY, qfilter
from tests.lab.topology import Lab

pytestmark = pytest.mark.needs("root", "netns", "ipv6", "nfqueue", "ping")

BACKENDS = (
    pytest.param("iptables-legacy", marks=pytest.mark.needs("iptables-legacy")),
    pytest.param("iptables-nft", marks=pytest.mark.needs("iptables-nft")),
    pytest.param("nft", marks=pytest.mark.needs("nft-queue")),
)
PolicyFile = Callable[[str], Path]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("outcome", "seen"), [("drop", Outcome.TIMED_OUT), ("accept", Outcome.ANSWERED)], ids=["drop", "accept"]
)
def test_after_a_crash_packets_have_the_outcome_of_the_policy(
    lab: Lab, policy_file: PolicyFile, backend: str, outcome: str, seen: Outcome
) -> None:
    """Forwarded packets, so that neighbour discovery does not hang on the outcome; `reject` shows who judged."""
    policy = policy_file(
        f"{{version: 1, default: {{forward: reject}}, on_failure: {{no_listener: {outcome}}},"
        f" queue: {{backend: {backend}}}}}"
    )
    with lab.gateway.start(*qfilter("run", policy)) as running:
        running.wait_for(READY)
        for family in (4, 6):
            assert ping(lab.client, lab.server.address(family)).outcome is Outcome.UNREACHABLE
        running.kill()
    for family in (4, 6):
        assert ping(lab.client, lab.server.address(family), timeout=QUICK).outcome is seen

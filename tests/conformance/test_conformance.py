"""One table of policies, packets, verdicts and reasons, for every engine: the policies' own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.engine.selftest import run_tests
from qfilter.policy.load import load

POLICIES = sorted((Path(__file__).parent / "policies").glob("*.yaml"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_every_packet_gets_the_verdict_that_the_table_says(path: Path) -> None:
    policy = load(str(path))
    outcome = run_tests(policy)
    assert policy.tests
    assert [str(failure.diagnostic()) for failure in outcome.failures] == []


def test_there_is_a_table() -> None:
    assert len(POLICIES) >= 7

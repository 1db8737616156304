"""The native engine against the reference: the same verdict, reason, rule, words, mark, effects and counts, always."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.build import build
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.policy.load import load, loads
from tests.fuzz.engines import Both
from tests.fuzz.generated import examples, packets, policies, sound_bytes
from tests.fuzz.test_corpus_policies import HEAD, POLICIES
from tests.unit.engine.test_corpus import CORPUS
from tests.unit.engine.test_corpus import packets as corpus_packets

ROOT = Path(__file__).parents[2]
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not here")
SECONDS = st.sampled_from([0, 0, 1, 500_000_000, 1_000_000_000, 3_000_000_000])


@examples(600)
@given(policies(scapy=False), st.lists(packets(), min_size=1, max_size=8), st.data())
def test_generated_policies_and_packets(policy: Policy, sent: list[Packet], data: st.DataObject) -> None:
    Both(policy).decide_all(sent, lambda: data.draw(SECONDS))


@examples(60)
@given(policies(), st.lists(packets(sound_bytes()), min_size=1, max_size=4))
def test_rules_that_ask_scapy(policy: Policy, sent: list[Packet]) -> None:
    Both(policy).decide_all(sent)


@examples(60)
@given(st.lists(policies(scapy=False), min_size=1, max_size=1), packets(sound_bytes()))
def test_every_cut_of_a_packet(policy: list[Policy], whole: Packet) -> None:
    Both(policy[0]).decide_all(replace(whole, data=whole.data[:end]) for end in range(len(whole.data) + 1))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/conformance/policies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_what_the_table_of_verdicts_sends(path: Path) -> None:
    policy = load(str(path))
    for case in policy.tests:
        Both(policy).decide_all(build(fields) for fields in (*case.after, *[case.packet] * case.times))


@needs_corpus
def test_every_field_of_the_corpus() -> None:
    """Every row of the field table, of every packet and of what is inside its tunnels."""
    both = Both(loads(HEAD))
    for packet in corpus_packets():
        both.read_all(packet)


@examples(300)
@given(packets())
def test_every_field(packet: Packet) -> None:
    Both(loads(HEAD)).read_all(packet)


@needs_corpus
@pytest.mark.parametrize("rules", [rules for name, rules in POLICIES.items() if "scapy" not in name])
def test_the_corpus_through_policies(rules: str) -> None:
    Both(loads(f"{HEAD}rules:\n{rules}")).decide_all(corpus_packets(), lambda: 1_000_000)


@needs_corpus
@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_corpus_through_what_ships(path: Path) -> None:
    policy = load(str(path))
    hooks = list(policy.defaults)
    sent = (replace(packet, hook=hooks[i % len(hooks)]) for i, packet in enumerate(corpus_packets()))
    Both(policy).decide_all(sent, lambda: 1_000_000)

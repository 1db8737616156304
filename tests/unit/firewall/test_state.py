"""What is told of a change, and of differences in one line."""

from __future__ import annotations

import pytest

from qfilter.fields import Family
from qfilter.firewall import iptables, nftables
from qfilter.firewall.state import NOTHING, Chain, Jump, Ruleset, State, changes, differences, summary
from qfilter.model.hook import Hook
from qfilter.model.policy import Backend
from tests.unit.firewall.kernel_rules import everything, gateway, least

IPV4, NFT = Ruleset(Backend.IPTABLES_NFT, Family.IPV4), Ruleset(Backend.NFT, None)
WANTED = iptables.desired(gateway(Backend.IPTABLES_NFT), Family.IPV4)
JUMPS = WANTED.chains[Hook.INPUT].jumps
NOWHERE = "is jumped to from nowhere, expected only INPUT rule 1"
REMEDY = "SIGUSR1 puts them back"


@pytest.mark.parametrize(
    ("ruleset", "found", "wanted", "said"),
    [
        (IPV4, WANTED, WANTED, ()),
        (
            IPV4,
            WANTED,
            State(chains={Hook.INPUT: Chain(("-j RETURN",), JUMPS)}),
            (
                "iptables-nft ipv4: filter QFILTER-IN and its jump changed",
                "iptables-nft ipv4: filter QFILTER-FWD and its jump removed",
            ),
        ),
        (
            IPV4,
            State(chains={Hook.INPUT: Chain((), JUMPS * 2), Hook.PREROUTING: Chain(())}),
            NOTHING,
            (
                "iptables-nft ipv4: mangle QFILTER-PRE removed",
                "iptables-nft ipv4: filter QFILTER-IN and its jumps removed",
            ),
        ),
        (NFT, NOTHING, nftables.desired(least(Backend.NFT)), ("nft: input made",)),
    ],
)
def test_changes(ruleset: Ruleset, found: State, wanted: State, said: tuple[str, ...]) -> None:
    assert changes(ruleset, found, wanted) == said


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (None, "is missing"),
        (Chain((), JUMPS), "has other rules than the policy's: 7 missing, 0 foreign"),
        (
            Chain(("-j ACCEPT",)),
            f"has other rules than the policy's: 7 missing, 1 foreign and {NOWHERE}",
        ),
        (
            Chain(WANTED.chains[Hook.INPUT].rules[::-1], JUMPS),
            "has rules repeated or in another order",
        ),
    ],
)
def test_summary_of_a_chain(chain: Chain | None, said: str) -> None:
    found = {} if chain is None else {Hook.INPUT: chain}
    wanted = State(chains={Hook.INPUT: WANTED.chains[Hook.INPUT]})
    lines = differences(IPV4, State(chains=found), wanted)
    assert summary(lines) == f"iptables-nft ipv4: QFILTER-IN {said}; {REMEDY}"


def test_summary_names_what_is_not_wanted_and_nfts_hooks() -> None:
    lines = differences(IPV4, State(chains={Hook.OUTPUT: Chain(())}), NOTHING)
    lines += differences(NFT, NOTHING, nftables.desired(least(Backend.NFT)))
    assert summary(lines) == f"iptables-nft ipv4: QFILTER-OUT is not wanted; nft: input is missing; {REMEDY}"


def test_summary_keeps_what_is_about_no_chain() -> None:
    lines = ("cannot be read: nft: list tables: one\n  two", "iptables-nft ipv6: ip6tables-nft-save: not installed")
    assert summary(lines) == f"cannot be read: nft: list tables: one two; {lines[1]}; {REMEDY}"


def test_after_a_flush_of_everything_the_summary_is_short() -> None:
    lines: tuple[str, ...] = ()
    for family in Family:
        wanted = iptables.desired(everything(Backend.IPTABLES_NFT), family)
        chains = {hook: Chain((), (Jump("filter", "INPUT", 2, "x"),)) for hook in wanted.chains}
        lines += differences(Ruleset(Backend.IPTABLES_NFT, family), State(chains=chains), wanted)
    assert len(summary(lines).split("; ")) == len(Family) * len(Hook) + 1

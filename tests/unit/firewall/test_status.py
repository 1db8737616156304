"""What an operator is told about what was found."""

from __future__ import annotations

import pytest

from qfilter.fields import Family
from qfilter.firewall.state import Chain, Ruleset, State
from qfilter.firewall.status import remarks
from qfilter.model.hook import Hook
from qfilter.model.policy import Backend

BOTH = tuple(Family)
QUEUES = State(chains={Hook.INPUT: Chain(("-j NFQUEUE --queue-num 0",))})
EMPTY = State()
LEGACY4, LEGACY6 = (Ruleset(Backend.IPTABLES_LEGACY, family) for family in Family)
NFT4, NFT6 = (Ruleset(Backend.IPTABLES_NFT, family) for family in Family)
NFT = Ruleset(Backend.NFT, None)


@pytest.mark.parametrize(
    ("states", "families", "said"),
    [
        ({LEGACY4: QUEUES, LEGACY6: QUEUES, NFT4: EMPTY, NFT6: EMPTY, NFT: EMPTY}, BOTH, []),
        ({LEGACY4: EMPTY, LEGACY6: EMPTY, NFT: QUEUES}, BOTH, []),
        ({NFT4: QUEUES}, (Family.IPV4,), ["this kernel has no IPv6: rules stand for IPv4 alone"]),
        ({NFT4: QUEUES, NFT6: EMPTY}, BOTH, ["iptables-nft: QFILTER-IN is missing for ipv6"]),
        (
            {NFT4: QUEUES, NFT6: QUEUES, NFT: QUEUES},
            BOTH,
            ["qfilter's rules stand under iptables-nft and nft: packets are queued more than once"],
        ),
        (
            {LEGACY4: State(foreign=2), NFT4: QUEUES, NFT6: QUEUES},
            BOTH,
            ["legacy and nft rules are both active (iptables-legacy, iptables-nft): a packet must pass both"],
        ),
        (
            {
                NFT4: State(chains=QUEUES.chains, ahead={Hook.INPUT: ("-j DOCKER", "-j ACCEPT"), Hook.OUTPUT: ("x",)}),
                NFT6: QUEUES,
            },
            BOTH,
            ["iptables-nft ipv4: other rules come before QFILTER-IN in INPUT: -j DOCKER; -j ACCEPT"],
        ),
    ],
)
def test_remarks(states: dict[Ruleset, State], families: tuple[Family, ...], said: list[str]) -> None:
    assert list(remarks(states, families)) == said

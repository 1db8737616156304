"""Which queues chains feed, in the words of every tool, and what is said of those that nobody holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qfilter.fields import Family
from qfilter.firewall import feeding, iptables, nftables
from qfilter.firewall.feeding import Feed, feeds, served_by_others, unheld, unserved
from qfilter.firewall.looking import Installed
from qfilter.firewall.state import Chain, Ruleset, State
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Target
from qfilter.netlink.nfnetlink import CopyMode
from qfilter.netlink.queues import BoundQueue
from tests.unit.firewall.kernel_rules import everything, gateway, least

INPUT = Feed(hook=Hook.INPUT, first=0, last=0, bypass=False)
FORWARD = replace(INPUT, hook=Hook.FORWARD)


@pytest.mark.parametrize("of", [least, gateway, everything])
@pytest.mark.parametrize("backend", [Backend.IPTABLES_NFT, Backend.NFT])
def test_every_tools_rules_are_read(of: Callable[[Backend], KernelRules], backend: Backend) -> None:
    rules = of(backend)
    if backend is Backend.NFT:
        found = {Ruleset(backend, None): nftables.desired(rules)}
    else:
        found = {Ruleset(backend, family): iptables.desired(rules, family) for family in Family}
    assert feeds(Installed(found)) == tuple(
        Feed(hook=hook, first=rules.first, last=rules.last, bypass=rules.bypass) for hook in rules.hooks
    )


@pytest.mark.parametrize(("ip_queue", "found"), [(False, (INPUT,)), (True, ())])
def test_target_queue_is_queue_0_unless_the_kernel_has_ip_queue(
    ip_queue: bool, found: tuple[Feed, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "_IP_QUEUE", tmp_path / ("" if ip_queue else "ip_queue"))
    rules = replace(least(Backend.IPTABLES_LEGACY), target=Target.QUEUE)
    ruleset = Ruleset(Backend.IPTABLES_LEGACY, Family.IPV4)
    assert feeds(Installed({ruleset: iptables.desired(rules, Family.IPV4)})) == found


def test_other_rules_feed_nothing() -> None:
    state = State(chains={Hook.INPUT: Chain(("-j ACCEPT", "-p tcp -j RETURN", "ct state established,related return"))})
    assert feeds(Installed({Ruleset(Backend.NFT, None): state})) == ()


@pytest.mark.parametrize(
    ("found", "held", "said"),
    [
        ([INPUT, FORWARD], {0}, []),
        ([], set(), []),
        ([FORWARD, INPUT], {1}, ["no process holds queue 0: every packet on input, forward is dropped"]),
        ([replace(INPUT, bypass=True)], set(), ["no process holds queue 0: every packet on input passes unjudged"]),
        (
            [INPUT, replace(FORWARD, bypass=True)],
            set(),
            [
                "no process holds queue 0: every packet on input is dropped",
                "no process holds queue 0: every packet on forward passes unjudged",
            ],
        ),
        (
            [replace(INPUT, first=4, last=6)],
            {5},
            [
                "no process holds queue 4: every packet on input that it gets is dropped",
                "no process holds queue 6: every packet on input that it gets is dropped",
            ],
        ),
    ],
)
def test_unheld(found: list[Feed], held: set[int], said: list[str]) -> None:
    assert list(unheld(found, held)) == said


REST = "until `qfilter run --no-install` serves; undo: `qfilter remove`"


@pytest.mark.parametrize(
    ("rules", "held", "said"),
    [
        (gateway(Backend.NFT), {0}, None),
        (gateway(Backend.NFT), {1}, f"nobody holds queue 0: everything on input, forward is dropped {REST}"),
        (
            replace(least(Backend.NFT), bypass=True),
            set(),
            f"nobody holds queue 0: everything on input passes unjudged {REST}",
        ),
        (
            replace(least(Backend.NFT), last=2),
            {1},
            f"nobody holds queues 0, 2: their share on input is dropped {REST}",
        ),
    ],
)
def test_unserved(rules: KernelRules, held: set[int], said: str | None) -> None:
    assert unserved(rules, held) == said


HELD = BoundQueue(
    number=5,
    port_id=7,
    waiting=0,
    copy_mode=CopyMode.PACKET,
    copy_range=96,
    dropped_full=0,
    dropped_socket=0,
    last_id=0,
)


@pytest.mark.parametrize(
    ("standing", "wanted", "held", "refused"),
    [
        ((5, 5), (0, 0), {5: HELD}, [5]),
        ((4, 7), (0, 3), {5: HELD, 6: HELD, 0: HELD}, [5, 6]),
        ((5, 5), (5, 5), {5: HELD}, []),  # a service that repairs or reloads
        ((4, 7), (5, 5), {5: HELD}, []),
        ((5, 5), (0, 0), {}, []),  # its service was killed
        ((5, 5), (0, 0), {0: HELD, 9: HELD}, []),
    ],
)
def test_rules_that_somebody_serves_are_not_replaced(
    standing: tuple[int, int], wanted: tuple[int, int], held: dict[int, BoundQueue], refused: list[int]
) -> None:
    first, last = standing
    found = iptables.desired(replace(least(Backend.IPTABLES_NFT), first=first, last=last), Family.IPV4)
    rules = replace(least(Backend.NFT), first=wanted[0], last=wanted[1])
    said = list(served_by_others(Installed({Ruleset(Backend.IPTABLES_NFT, Family.IPV4): found}), rules, held))
    assert [line.partition(",")[0] for line in said] == [f"the rules that stand feed queue {each}" for each in refused]
    assert all("which an unknown process holds" in line for line in said)

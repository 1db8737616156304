"""Installing and removing on a real kernel: nothing but qfilter's own changes, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qfilter import firewall
from qfilter.fields import Family
from qfilter.firewall import backends, nftables, tools
from qfilter.firewall.state import NOTHING, Chain, Ruleset, State
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Target
from tests.kernel.firewall_rulesets import Tools, add_foreign, namespace, snapshot
from tests.lab.namespace import Namespace
from tests.unit.firewall.kernel_rules import everything, gateway, least

BACKENDS = (
    pytest.param(Backend.IPTABLES_LEGACY, marks=pytest.mark.needs("iptables-legacy")),
    pytest.param(Backend.IPTABLES_NFT, marks=pytest.mark.needs("iptables-nft")),
    pytest.param(Backend.NFT, marks=pytest.mark.needs("nft-queue")),
)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(params=["alone", "among others"])
def where(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace that this process is in, empty or full of somebody else's rules."""
    with namespace() as made:
        if request.param == "among others":
            add_foreign(made)
        with made.entered():
            yield made


@each_backend
@pytest.mark.parametrize("of", [least, gateway, everything])
def test_what_is_installed_is_removed_without_a_trace(
    where: Namespace, backend: Backend, of: Callable[[Backend], KernelRules]
) -> None:
    before = snapshot(where)
    rules = of(backend)
    assert firewall.install(rules)
    assert firewall.differences(rules, firewall.installed()) == ()
    assert firewall.installed().backends == (backend,)
    assert firewall.remove()
    assert snapshot(where) == before


@each_backend
def test_the_second_time_there_is_nothing_to_do(where: Namespace, backend: Backend) -> None:
    firewall.install(gateway(backend))
    standing = snapshot(where)
    assert firewall.install(gateway(backend)) == ()
    assert snapshot(where) == standing
    firewall.remove()
    assert firewall.remove() == ()


@each_backend
def test_a_changed_policy_replaces_rules_and_is_removed_as_well(where: Namespace, backend: Backend) -> None:
    before = snapshot(where)
    for rules in (everything(backend), gateway(backend), least(backend, Hook.POSTROUTING), everything(backend)):
        firewall.install(rules)
        assert firewall.differences(rules, firewall.installed()) == ()
    firewall.remove()
    assert snapshot(where) == before


@pytest.mark.needs("iptables-legacy", "iptables-nft")
def test_under_another_tool_the_first_ones_rules_go(where: Namespace) -> None:
    before = snapshot(where)
    for backend in (Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY):
        firewall.install(gateway(backend))
        assert firewall.installed().backends == (backend,)
    firewall.remove()
    assert snapshot(where) == before


@pytest.mark.needs("iptables-legacy-queue")
def test_target_queue(where: Namespace) -> None:
    before = snapshot(where)
    rules = replace(gateway(Backend.IPTABLES_LEGACY), target=Target.QUEUE)
    firewall.install(rules)
    assert "-A QFILTER-FWD -j QUEUE" in snapshot(where)
    assert firewall.install(rules) == ()
    firewall.remove()
    assert snapshot(where) == before


@pytest.mark.needs("iptables-nft")
def test_what_others_put_into_a_base_chain_that_qfilter_made_stays() -> None:
    with namespace() as made, made.entered():
        firewall.install(gateway(Backend.IPTABLES_NFT))
        made.run("iptables-nft", "-A", "INPUT", "-p", "tcp", "-j", "DROP")
        firewall.remove()
        assert made.run("nft", "--stateless", "list", "ruleset").stdout.splitlines() == [
            "table ip filter {",
            "\tchain INPUT {",
            "\t\ttype filter hook input priority filter; policy accept;",
            "\t\tmeta l4proto tcp counter drop",
            "\t}",
            "}",
        ]


@pytest.mark.needs("nft")
@pytest.mark.parametrize("of", [gateway, everything])
def test_nft_takes_and_gives_back_all_but_the_queue_statement(
    where: Namespace, of: Callable[[Backend], KernelRules]
) -> None:
    """On kernels without CONFIG_NFT_QUEUE too: the rest of the script, read back, changed and removed."""
    ruleset = Ruleset(Backend.NFT, None)
    before = snapshot(where)
    wanted = without_queue(nftables.desired(of(Backend.NFT)))
    less = without_queue(nftables.desired(replace(of(Backend.NFT), hooks=(Hook.FORWARD,), mark_mask=0xF0)))
    for state in (wanted, less, wanted):
        for command in backends.commands(ruleset, backends.read(ruleset), state):
            tools.run(command)
        assert backends.read(ruleset).chains == state.chains
        assert backends.commands(ruleset, backends.read(ruleset), state) == ()
    for command in backends.commands(ruleset, backends.read(ruleset), NOTHING):
        tools.run(command)
    assert snapshot(where) == before


def without_queue(state: State) -> State:
    return State(chains={hook: Chain(chain.rules[:-1]) for hook, chain in state.chains.items()})


@pytest.mark.needs("iptables-legacy", "iptables-nft")
def test_status_says_what_stands_and_what_is_unusual() -> None:
    rules = gateway(Backend.IPTABLES_NFT)
    with namespace() as made, made.entered():
        assert firewall.status(rules).differences == tuple(
            f"iptables-nft {family}: filter {chain}: missing"
            for family in ("ipv4", "ipv6")
            for chain in ("QFILTER-IN", "QFILTER-FWD")
        )
        firewall.install(rules)
        clean = firewall.status(rules)
        assert (clean.differences, clean.remarks, clean.conntrack) == ((), (), True)
        made.run("iptables-nft", "-I", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
        made.run("ip6tables-nft", "-F", "INPUT")
        made.run("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
        found = firewall.status(rules)
        assert found.differences == (
            "iptables-nft ipv4: filter QFILTER-FWD: jumped to from FORWARD rule 2, expected only FORWARD rule 1",
            "iptables-nft ipv6: filter QFILTER-IN: jumped to from nowhere, expected only INPUT rule 1",
        )
        assert found.remarks == (
            "legacy and nft rules are both active (iptables-legacy, iptables-nft): a packet must pass both",
            "iptables-nft ipv4: other rules come before QFILTER-FWD in FORWARD: -i docker0 -j ACCEPT",
        )


def test_the_probe_names_what_can_be_installed_and_nothing_else() -> None:
    able, problems = firewall.probe()
    assert able.keys() | problems.keys() == {Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT, Backend.NFT}
    for backend, targets in able.items():
        for target in targets:
            with namespace() as made, made.entered():
                rules = replace(gateway(backend), target=target)
                firewall.install(rules)
                assert firewall.differences(rules, firewall.installed()) == ()


def probed_with(fake: Tools, *lines: str) -> str:
    """Why iptables-legacy cannot be used when its restore is a script of these lines."""
    fake.replace("iptables-legacy-restore", *lines)
    able, problems = firewall.probe()
    assert Backend.IPTABLES_LEGACY not in able
    return problems[Backend.IPTABLES_LEGACY]


@pytest.mark.needs("iptables-legacy")
def test_the_probe_tells_a_broken_tool_from_a_kernel_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Tools(tmp_path, monkeypatch)
    lacking = 'cat > $0.text; grep -q QUEUE $0.text && { echo "No chain/target/match by that name." >&2; exit 1; }'
    assert probed_with(fake, "echo 'out of cheese' >&2", "exit 1") == "broken: out of cheese"
    assert probed_with(fake, "echo 'Protocol not supported' >&2", "exit 1") == "not supported: Protocol not supported"
    assert probed_with(fake, lacking, 'exec $real "$@" < $0.text') == (
        "this kernel has no target NFQUEUE: No chain/target/match by that name.; "
        "this kernel has no target QUEUE: No chain/target/match by that name."
    )


@pytest.mark.needs("iptables-nft")
def test_a_kernel_without_ipv6_gets_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "families", lambda: (Family.IPV4,))
    rules = gateway(Backend.IPTABLES_NFT)
    with namespace() as made, made.entered():
        firewall.install(rules)
        assert firewall.status(rules).differences == ()
        assert firewall.status(rules).remarks == ("this kernel has no IPv6: rules stand for IPv4 alone",)
        assert "QFILTER" not in made.run("ip6tables-nft-save").stdout

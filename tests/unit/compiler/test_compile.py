"""Plans: which kernel rules, how many bytes, decided where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.compiler import compile_policy
from qfilter.errors import Diagnostic, PolicyError, UnsupportedError
from qfilter.model.hook import Hook
from qfilter.model.match import Ranges
from qfilter.model.plan import Capabilities, KernelRules, Place, Plan
from qfilter.model.policy import Backend, Exempt, Policy, QueueSettings, Target
from qfilter.model.rule import AllOf, AnyOf, NotOf, Rule, ScapyTest
from qfilter.model.verdict import ACCEPT, DROP, Kind, Reason, RejectWith
from tests.unit.compiler.policies import MACHINE, at, field, policy, python, reject, rule


def kernel(of: Policy, capabilities: Capabilities = MACHINE) -> KernelRules:
    rules = compile_policy(of, capabilities).kernel
    assert rules is not None
    return rules


def test_the_least_policy() -> None:
    assert kernel(policy()) == KernelRules(backend=Backend.IPTABLES_NFT, target=Target.NFQUEUE, hooks=(Hook.INPUT,))


def test_every_setting_of_the_queue_reaches_the_kernel() -> None:
    queue = QueueSettings(
        first=4, last=7, backend=Backend.IPTABLES_LEGACY, cpu_fanout=True, exempt=(Exempt.LO,), mark_mask=0xF0
    )
    of = policy(
        rule(5, verdict=reject(RejectWith.TCP_RESET)),
        defaults={Hook.OUTPUT: ACCEPT, Hook.INPUT: reject(RejectWith.NO_ROUTE)},
        on_failure={Reason.NO_LISTENER: Kind.ACCEPT},
        queue=queue,
    )
    assert kernel(of) == KernelRules(
        backend=Backend.IPTABLES_LEGACY,
        target=Target.NFQUEUE,
        hooks=(Hook.INPUT, Hook.OUTPUT),
        first=4,
        last=7,
        bypass=True,
        cpu_fanout=True,
        exempt=(Exempt.LO,),
        mark_mask=0xF0,
        rejects=(RejectWith.TCP_RESET, RejectWith.NO_ROUTE),
    )


def test_a_reject_that_no_packet_can_get_needs_no_kernel_rule() -> None:
    inner = rule(6, verdict=reject(), hooks=(Hook.OUTPUT,))
    assert kernel(policy(rule(5, verdict=None, hooks=(Hook.INPUT,), rules=(inner,)))).rejects == ()


def test_a_reject_inside_a_rule_counts() -> None:
    assert kernel(policy(rule(5, verdict=None, rules=(rule(6, verdict=reject()),)))).rejects == (
        RejectWith.PORT_UNREACHABLE,
    )


def test_without_installing_no_backend_is_asked_for() -> None:
    assert compile_policy(policy(), Capabilities(), install=False).kernel is None


@pytest.mark.parametrize(
    ("on_failure", "fail_open"),
    [({}, False), ({Reason.QUEUE_FULL: Kind.ACCEPT}, True), ({Reason.NO_LISTENER: Kind.ACCEPT}, False)],
)
def test_fail_open_is_queue_full_accept(on_failure: dict[Reason, Kind], fail_open: bool) -> None:
    assert compile_policy(policy(on_failure=on_failure), MACHINE).fail_open is fail_open


@pytest.mark.parametrize(
    ("asked", "target", "expected"),
    [
        (None, Target.NFQUEUE, Backend.IPTABLES_NFT),
        (None, Target.QUEUE, Backend.IPTABLES_LEGACY),
        (Backend.AUTO, Target.NFQUEUE, Backend.IPTABLES_NFT),
        (Backend.IPTABLES_LEGACY, Target.NFQUEUE, Backend.IPTABLES_LEGACY),
    ],
)
def test_the_backend_is_the_first_that_can_or_the_one_asked_for(
    asked: Backend | None, target: Target, expected: Backend
) -> None:
    plan = compile_policy(policy(queue=QueueSettings(target=target)), MACHINE, backend=asked)
    assert plan.kernel is not None
    assert plan.kernel.backend is expected


def test_an_asked_backend_that_is_absent_says_why() -> None:
    with pytest.raises(UnsupportedError) as caught:
        compile_policy(policy(), MACHINE, backend=Backend.NFT)
    assert str(caught.value) == (
        "no tool can install kernel rules with target 'nfqueue': nft: this kernel has no queue statement"
    )


def test_no_backend_at_all_says_why_for_each() -> None:
    nothing = Capabilities(problems={Backend.IPTABLES_LEGACY: "not installed", Backend.IPTABLES_NFT: "not installed"})
    with pytest.raises(UnsupportedError) as caught:
        compile_policy(policy(), nothing)
    assert str(caught.value) == (
        "no tool can install kernel rules with target 'nfqueue': "
        "iptables-legacy: not installed; iptables-nft: not installed; nft: not probed"
    )


def test_places_name_every_rule() -> None:
    scapy = ScapyTest("DNSQR", "qname", Ranges(()), at(6))
    of = policy(
        rule(5, match=AllOf((field("dport"),))),
        rule(6, match=AllOf((field("dport"), NotOf(scapy)))),
        rule(7, verdict=None, rules=(rule(8, match=AnyOf((python(8),))),)),
    )
    assert compile_policy(of, MACHINE).places == {
        "r5": Place.NATIVE,
        "r6": Place.PYTHON,
        "r7": Place.NATIVE,
        "r8": Place.PYTHON,
    }


hooks = st.lists(st.sampled_from(list(Hook)), unique=True).map(tuple)
decisions = st.sampled_from([ACCEPT, DROP, *map(reject, RejectWith)])
conditions = st.recursive(
    st.sampled_from(["dport", "payload", "saddr", "uid", "inner"]).map(
        lambda name: field("saddr", depth=1) if name == "inner" else field(name)
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: AllOf(tuple(each)))
        | st.lists(inner, max_size=3).map(lambda each: AnyOf(tuple(each)))
        | inner.map(NotOf)
    ),
    max_leaves=6,
)


@st.composite
def rules(draw: st.DrawFn, depth: int = 2) -> tuple[Rule, ...]:
    return tuple(
        rule(
            draw(st.integers(1, 10_000)),
            verdict=draw(st.none() | decisions),
            match=draw(conditions),
            hooks=draw(hooks),
            rules=draw(rules(depth - 1)) if depth else (),
        )
        for _ in range(draw(st.integers(0, 3)))
    )


policies = st.builds(
    lambda each, defaults, accepting: policy(
        *each, defaults=defaults, on_failure=dict.fromkeys(accepting, Kind.ACCEPT)
    ),
    rules(),
    st.dictionaries(st.sampled_from(list(Hook)), decisions, min_size=1),
    st.sets(st.sampled_from([Reason.QUEUE_FULL, Reason.NO_LISTENER])),
)
machines = st.builds(
    lambda fail_open, unreadable: Capabilities(
        backends=MACHINE.backends, fail_open=fail_open, unreadable=frozenset(unreadable)
    ),
    st.booleans(),
    st.sets(st.just("uid")),
)


def outcome(of: Policy, machine: Capabilities) -> Plan | tuple[Diagnostic, ...]:
    try:
        return compile_policy(of, machine)
    except PolicyError as error:
        return error.diagnostics


@given(policies, machines)
def test_the_same_policy_and_machine_give_the_same_plan_or_the_same_mistakes(of: Policy, machine: Capabilities) -> None:
    assert outcome(of, machine) == outcome(of, machine)


@given(policies)
def test_a_plan_can_stand_in_the_kernel_or_the_policy_rejects_where_none_can(of: Policy) -> None:
    plan = outcome(of, MACHINE)
    if isinstance(plan, Plan):
        assert plan.kernel is not None
        assert plan.kernel.hooks == tuple(hook for hook in Hook if hook in of.defaults)
        assert bool(plan.kernel.mark_mask) is bool(plan.kernel.rejects)
        assert plan.copy_range in (128, 65_531)
    else:
        assert {each.kind for each in plan} == {"reject-hook"}
        assert {Hook.PREROUTING, Hook.POSTROUTING} & of.defaults.keys()

"""What stands where, and what an operator should know about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from qfilter.fields import Family
from qfilter.firewall import tools
from qfilter.firewall.apply import differences
from qfilter.firewall.looking import Installed, installed
from qfilter.firewall.state import PLACES, Ruleset, State
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend

_TRACKED = Path("/proc/sys/net/netfilter/nf_conntrack_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The answer to `qfilter status`, as far as the kernel rules go."""

    found: Installed
    """To be printed: what is not printable in rules of others is written as an escape."""
    families: tuple[Family, ...]
    """Those of this kernel; without IPv6 there is nothing to install for it."""
    conntrack: bool
    """Whether connections are tracked: then fragments are put together before qfilter sees them."""
    differences: tuple[str, ...]
    """Between what stands and the policy's plan; empty without a plan."""
    remarks: tuple[str, ...]
    """What is unusual, a sentence each."""


def status(rules: KernelRules | None = None) -> Status:
    """What stands now, compared with a plan when there is one. Raises PrivilegeError and FirewallError."""
    found = installed()
    found = replace(found, states={ruleset: state.shown() for ruleset, state in found.states.items()})
    families = tools.families()
    tracked = _TRACKED.exists() and int(_TRACKED.read_text(encoding="ascii")) > 0
    return Status(
        found=found,
        families=families,
        conntrack=tracked or any(state.conntrack for state in found.states.values()),
        differences=differences(rules, found) if rules is not None else (),
        remarks=(*remarks(found.states, families), *found.unseen),
    )


def remarks(states: Mapping[Ruleset, State], families: tuple[Family, ...]) -> Iterator[str]:
    """What is unusual about what was found. Pure."""
    standing = dict.fromkeys(ruleset.backend for ruleset, state in states.items() if state.chains)
    if len(standing) > 1:
        yield f"qfilter's rules stand under {' and '.join(standing)}: packets are queued more than once"
    used = dict.fromkeys(ruleset.backend for ruleset, state in states.items() if state.chains or state.foreign)
    if Backend.IPTABLES_LEGACY in used and len(used) > 1:
        yield f"legacy and nft rules are both active ({', '.join(used)}): a packet must pass both"
    if Family.IPV6 not in families:
        yield "this kernel has no IPv6: rules stand for IPv4 alone"
    yield from _missing_twins(states, families)
    for ruleset, state in states.items():
        if state.unreadable:
            yield f"{ruleset}: {state.unreadable}"
        for hook, rules in state.ahead.items():
            if rules and hook in state.chains:
                before = "; ".join(rules)
                yield f"{ruleset}: other rules come before {PLACES[hook].chain} in {PLACES[hook].builtin}: {before}"


def _missing_twins(states: Mapping[Ruleset, State], families: tuple[Family, ...]) -> Iterator[str]:
    pairs = dict.fromkeys(ruleset.backend for ruleset in states if ruleset.family is not None)
    for backend in pairs:
        hooks = {family: states.get(Ruleset(backend, family), State()).chains.keys() for family in families}
        for hook in Hook:
            without = [family.value for family in families if hook not in hooks[family]]
            if without and len(without) < len(families):
                yield f"{backend.value}: {PLACES[hook].chain} is missing for {' and '.join(without)}"

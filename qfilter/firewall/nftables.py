"""nft's script for the table `inet qfilter`: what should stand, what stands, and how to get from one to the other.

The order of rules is that of `iptables.py`, for the same reasons. nft prints rules in words that change between
versions, so each rule carries itself as its comment, and the comments are what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from qfilter.fields import Family
from qfilter.firewall.reject import UNREACHABLE, nft_name
from qfilter.firewall.state import LO_SIDE, PLACES, Chain, Jump, State, exempts_lo
from qfilter.model.hook import Hook
from qfilter.model.marks import handed_back
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Exempt
from qfilter.model.verdict import RejectWith

TABLE = "inet qfilter"
IPTABLES_FAMILY = {Family.IPV4: "ip", Family.IPV6: "ip6"}
"""nft's name for the family of the tables that iptables-nft and ip6tables-nft make."""
UNKNOWN = "(not qfilter's)"
"""Stands for a rule in qfilter's table that qfilter did not write."""


def desired(rules: KernelRules) -> State:
    """What should stand, for both families."""
    return State(chains={hook: Chain(tuple(_rules(rules, hook))) for hook in rules.hooks})


def _rules(rules: KernelRules, hook: Hook) -> Iterator[str]:
    if exempts_lo(rules, hook):
        yield f"{LO_SIDE[hook]}ifname lo return"
    if Exempt.ESTABLISHED in rules.exempt:
        yield "ct state established,related return"
    for answer in rules.rejects if PLACES[hook].table == "filter" else ():
        marked = f"meta mark & {rules.mark_mask:#x} == {handed_back(rules.mark_mask, answer):#x}"
        if answer is RejectWith.TCP_RESET:
            yield f"{marked} meta l4proto tcp reject with tcp reset"
        for family in UNREACHABLE[answer]:
            yield f"meta nfproto {family} {marked} reject with {nft_name(answer, family)}"
    if rules.mark_mask:
        yield f"meta mark & {rules.mark_mask:#x} != 0 drop"
    yield _queue(rules)


def _queue(rules: KernelRules) -> str:
    several = rules.last > rules.first
    flags = [name for name, on in (("bypass", rules.bypass), ("fanout", rules.cpu_fanout and several)) if on]
    numbers = f"{rules.first}-{rules.last}" if several else f"{rules.first}"
    return f"queue flags {','.join(flags)} to {numbers}" if flags else f"queue to {numbers}"


def parse(listed: str) -> State:
    """What `nft --json list table inet qfilter` printed.

    A chain without rules counts as none: it stays behind when a policy gives up a hook, see `script`.
    """
    rules: dict[str, list[str]] = {}
    for entry in json.loads(listed)["nftables"]:
        if "rule" in entry:
            rule: dict[str, Any] = entry["rule"]
            rules.setdefault(rule["chain"], []).append(rule.get("comment", UNKNOWN))
    chains = {hook: Chain(tuple(rules[hook])) for hook in Hook if hook in rules}
    return State(chains=chains, present=frozenset({TABLE}))


def among_native(listed: str, why: str) -> State:
    """qfilter's chains of iptables and their jumps, from `nft --json list ruleset ip` where iptables cannot show them.

    nft does not show what stands in a rule of iptables': the chains have no rules, and a jump is its rule's handle.
    """
    entries = json.loads(listed)["nftables"]
    rules: dict[tuple[str, str], list[dict[str, Any]]] = {
        (entry["chain"]["table"], entry["chain"]["name"]): [] for entry in entries if "chain" in entry
    }
    for rule in (entry["rule"] for entry in entries if "rule" in entry):
        rules[rule["table"], rule["chain"]].append(rule)
    ours = {(place.table, place.chain): hook for hook, place in PLACES.items() if (place.table, place.chain) in rules}
    jumps: dict[Hook, list[Jump]] = {hook: [] for hook in ours.values()}
    for (table, chain), each in rules.items():
        for position, rule in enumerate(each if (table, chain) not in ours else (), 1):
            for hook in (ours[table, target] for target in _targets(rule) if (table, target) in ours):
                jumps[hook].append(Jump(table, chain, position, f"handle {rule['handle']}"))
    return State(
        chains={hook: Chain((), tuple(jumps[hook])) for hook in ours.values()},
        foreign=sum(len(each) for key, each in rules.items() if key not in ours) - sum(map(len, jumps.values())),
        conntrack='"ct"' in listed or '"conntrack"' in listed,
        unreadable=why,
    )


def _targets(rule: dict[str, Any]) -> list[str]:
    return [each[verb]["target"] for each in rule["expr"] for verb in ("jump", "goto") if verb in each]


def removal(found: State, family: Family) -> str:
    """What `nft -f` must read to delete what `among_native` found; empty when that is nothing."""
    kind = IPTABLES_FAMILY[family]
    chains = [f"{kind} {PLACES[hook]}" for hook in found.chains]
    jumps = [jump for chain in found.chains.values() for jump in chain.jumps]
    lines = [
        *(f"delete rule {kind} {jump.table} {jump.chain} {jump.rule}" for jump in jumps),
        *(f"flush chain {chain}" for chain in chains),
        *(f"delete chain {chain}" for chain in chains),
    ]
    return "".join(f"{line}\n" for line in lines)


def by_hand(found: State, family: Family) -> str:
    """What an operator can type where `removal` is refused: an empty chain lets everything go on."""
    chains = (f"`nft flush chain {IPTABLES_FAMILY[family]} {PLACES[hook]}`" for hook in found.chains)
    return f"to let packets pass all the same: {', '.join(chains)}"


def base_chains(listed: str, family: Family) -> frozenset[str]:
    """The base chains of a family, as `filter INPUT`, from `nft --json list chains`."""
    kind = IPTABLES_FAMILY[family]
    chains = [entry["chain"] for entry in json.loads(listed)["nftables"] if "chain" in entry]
    return frozenset(
        f"{chain['table']} {chain['name']}" for chain in chains if chain["family"] == kind and "hook" in chain
    )


def has_table(listed: str) -> bool:
    """Whether the table stands, from `nft --json list tables`."""
    tables = [entry["table"] for entry in json.loads(listed)["nftables"] if "table" in entry]
    return any(f"{table['family']} {table['name']}" == TABLE for table in tables)


def script(found: State, wanted: State) -> str:
    """What `nft -f` must read to turn `found` into `wanted`; empty when nothing is to be done.

    A base chain that is no longer wanted is emptied and stays until the whole table goes: when one goes away the
    kernel drops the packets of every queue (nf_queue_nf_hook_drop).
    """
    if not wanted.chains:
        return f"delete table {TABLE}\n" if found.present else ""
    changed = [hook for hook in Hook if found.chains.get(hook) != wanted.chains.get(hook)]
    if not changed:
        return ""
    lines = [f"add table {TABLE}"]
    for hook in changed:
        # the priorities are iptables' own for the tables filter and mangle: an administrator finds qfilter where it
        # would be under the other tools, after conntrack and before source NAT
        lines.append(
            f"add chain {TABLE} {hook} {{ type filter hook {hook} priority {PLACES[hook].table}; policy accept; }}"
        )
        lines.append(f"flush chain {TABLE} {hook}")
        rules = wanted.chains[hook].rules if hook in wanted.chains else ()
        lines += [f'add rule {TABLE} {hook} {rule} comment "{rule}"' for rule in rules if rule != UNKNOWN]
    return "\n".join(lines) + "\n"

"""iptables' text, both families and both kinds: what should stand, what stands, and how to get from one to the other.

In each of qfilter's chains the order is a proof. First the exemptions, which RETURN: qfilter says nothing about such a
packet, later rules do. Then the answers: the engine hands a packet that it rejects back with a code in its mark and
NF_REPEAT, and here the kernel's own REJECT meets it; the packet carries the conntrack state that it was queued with,
so it cannot turn into an exempt one on the way. Then whatever else carries hand-back bits is dropped, for nobody but
qfilter may set them. What is left is queued.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

from qfilter.fields import Family
from qfilter.firewall.reject import iptables_name
from qfilter.firewall.state import LO_SIDE, PLACES, Chain, Jump, State, exempts_lo
from qfilter.model.hook import Hook
from qfilter.model.marks import handed_back
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Exempt, Target
from qfilter.model.verdict import RejectWith

TABLES = ("mangle", "filter")
REJECTING = "filter"
"""REJECT works in this table only."""

_MADE = '-m comment --comment "qfilter made '
"""Behind the rules of qfilter's chains, where no packet comes: how removal knows what was not there before."""


def desired(rules: KernelRules, family: Family) -> State:
    """What should stand in one family."""
    return State(chains={hook: _chain(rules, hook, family) for hook in rules.hooks})


def _chain(rules: KernelRules, hook: Hook, family: Family) -> Chain:
    place = PLACES[hook]
    jump = Jump(place.table, place.builtin, 1, f"-j {place.chain}")
    return Chain((*_exemptions(rules, hook), *_answers(rules, hook, family), _queue(rules)), (jump,))


def _exemptions(rules: KernelRules, hook: Hook) -> Iterator[str]:
    if exempts_lo(rules, hook):
        yield f"-{LO_SIDE[hook]} lo -j RETURN"
    if Exempt.ESTABLISHED in rules.exempt:
        yield "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"


def _answers(rules: KernelRules, hook: Hook, family: Family) -> Iterator[str]:
    for answer in rules.rejects if PLACES[hook].table == REJECTING else ():
        mark = handed_back(rules.mark_mask, answer)
        marked = f"-m mark --mark {mark:#x}/{rules.mark_mask:#x} -j REJECT --reject-with"
        if answer is RejectWith.TCP_RESET:
            yield f"-p tcp {marked} tcp-reset"
        yield f"{marked} {iptables_name(answer, family)}"
    if rules.mark_mask:
        yield f"-m mark ! --mark 0x0/{rules.mark_mask:#x} -j DROP"


def _queue(rules: KernelRules) -> str:
    if rules.target is Target.QUEUE:
        return "-j QUEUE"
    several = rules.last > rules.first
    numbers = f"--queue-balance {rules.first}:{rules.last}" if several else f"--queue-num {rules.first}"
    bypass = " --queue-bypass" if rules.bypass else ""
    fanout = " --queue-cpu-fanout" if rules.cpu_fanout and several else ""
    return f"-j NFQUEUE {numbers}{bypass}{fanout}"


def parse(saved: str, base_chains: frozenset[str] | None = None) -> State:
    """What iptables-save printed; comments and foreign tables do not matter.

    iptables-nft-save prints base chains that do not exist. `base_chains` are those that do (`filter INPUT`), or None
    where the tool never makes one or nothing can tell: then none is marked as made, or removed.
    """
    policies, rules = _read(saved)
    present = None if base_chains is None else base_chains | {table for table, _ in policies}
    jumps = _jumps(rules)
    ours = {hook: (place.table, place.chain) for hook, place in PLACES.items()}
    made = frozenset(_made_by(rule) for key in ours.values() for rule in rules.get(key, ()) if _is_marker(rule))
    return State(
        chains={
            hook: Chain(tuple(rule for rule in rules.get(key, ()) if not _is_marker(rule)), jumps[hook])
            for hook, key in ours.items()
            if key in policies
        },
        made=made,
        present=present,
        spent=frozenset(_spent(made, present or frozenset(), policies, rules, jumps)),
        ahead={hook: _ahead(hook, rules, jumps[hook]) for hook in Hook},
        foreign=sum(len(each) for key, each in rules.items() if key not in ours.values())
        - len({(jump.table, jump.chain, jump.position) for each in jumps.values() for jump in each}),
        conntrack=any(table == "nat" or _TRACKING.search(rule) for (table, _), each in rules.items() for rule in each),
    )


def unreadable(saved: str) -> tuple[str, ...]:
    """The tables that iptables-nft-save could not print, for all its exit code 0: nft wrote into them."""
    lines = saved.split("\n")
    return tuple(
        table for table in TABLES if any(line.startswith(f"# Table `{table}' is incompatible") for line in lines)
    )


_Key = tuple[str, str]
"""A table and a chain."""
_TRACKING = re.compile(
    r"-m (conntrack|state|connmark|connlimit|connbytes|connlabel|helper) |-j (CT|CONNMARK|SYNPROXY)\b"
)


def _read(saved: str) -> tuple[dict[_Key, str], dict[_Key, list[str]]]:
    """The policies and the rules of every chain; a chain that is not built in has the policy `-`."""
    policies: dict[_Key, str] = {}
    rules: dict[_Key, list[str]] = {}
    table = ""
    for line in saved.split("\n"):  # comments may hold what else ends a line for `splitlines`
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, policy, *_ = line[1:].split(" ")
            policies[table, chain] = policy
        elif line.startswith("-A "):
            chain, _, rule = line[3:].partition(" ")
            rules.setdefault((table, chain), []).append(rule)
    return policies, rules


def _is_marker(rule: str) -> bool:
    return rule.startswith(_MADE)


def _made_by(marker: str) -> str:
    return marker.removeprefix(_MADE).removesuffix('"')


def _jumps(rules: Mapping[_Key, list[str]]) -> dict[Hook, tuple[Jump, ...]]:
    """Every rule that leads into a chain of qfilter's from one that is not, whoever wrote it."""
    found: dict[Hook, list[Jump]] = {hook: [] for hook in Hook}
    chains = {place.chain for place in PLACES.values()}
    for (table, chain), each in rules.items():
        for position, rule in enumerate(each, 1):
            if "QFILTER-" in rule and chain not in chains:
                for hook in _leads_to(table, rule):
                    found[hook].append(Jump(table, chain, position, rule))
    return {hook: tuple(jumps) for hook, jumps in found.items()}


def _leads_to(table: str, rule: str) -> list[Hook]:
    words = shlex.split(rule)  # a comment is one word, also when it says -j QFILTER-IN
    targets = {target for option, target in pairwise(words) if option in ("-j", "-g")}
    return [hook for hook, place in PLACES.items() if place.table == table and place.chain in targets]


def _ahead(hook: Hook, rules: Mapping[_Key, list[str]], jumps: tuple[Jump, ...]) -> tuple[str, ...]:
    place = PLACES[hook]
    first = min((jump.position for jump in jumps if jump.chain == place.builtin), default=1)
    return tuple(rules.get((place.table, place.builtin), ())[: first - 1])


def _spent(
    made: frozenset[str],
    present: frozenset[str],
    policies: Mapping[_Key, str],
    rules: Mapping[_Key, list[str]],
    jumps: Mapping[Hook, tuple[Jump, ...]],
) -> Iterator[str]:
    own_rules = Counter((jump.table, jump.chain) for each in jumps.values() for jump in each)
    own_chains = {(place.table, place.chain) for place in PLACES.values()}
    for table in TABLES:
        builtin = {chain for name, chain in policies if name == table and policies[name, chain] != "-"}
        empty = {
            chain
            for chain in builtin
            if f"{table} {chain}" in made & present
            and policies[table, chain] == "ACCEPT"
            and len(rules.get((table, chain), ())) == own_rules[table, chain]
        }
        yield from (f"{table} {chain}" for chain in sorted(empty))
        others = {key for key in policies if key[0] == table and policies[key] == "-"} - own_chains
        standing = {chain for where, _, chain in (name.partition(" ") for name in present) if where == table and chain}
        if table in made & present and not others and standing <= empty:
            yield table


def spent_tables(found: State, wanted: State) -> tuple[str, ...]:
    """Tables that only hold what is to be removed, and were not there before qfilter was."""
    return () if wanted.chains else tuple(table for table in TABLES if table in found.spent)


def own_chains(table: str, found: State) -> tuple[str, ...]:
    """The chains of a spent table: its base chains, and qfilter's."""
    made = (name.removeprefix(f"{table} ") for name in sorted(found.spent) if name.startswith(f"{table} "))
    return (*made, *(PLACES[hook].chain for hook in found.chains if PLACES[hook].table == table))


def restore_text(found: State, wanted: State) -> str:
    """What iptables-restore must read to turn `found` into `wanted`; empty when nothing is to be done.

    Rules change inside chains: a base chain is only removed together with the last of qfilter's chains, for when
    one goes away the kernel drops the packets of every queue (nf_queue_nf_hook_drop).
    """
    changed = {hook for hook in Hook if found.chains.get(hook) != wanted.chains.get(hook)}
    if not changed:
        return ""
    made = found.made | _missing(found, wanted)
    markers = tuple(f'{_MADE}{name}"' for name in sorted(made))
    # every chain carries every marker, so that none is lost when a change or a removal ends half-way
    touched = changed | wanted.chains.keys() if markers else changed
    spent = spent_tables(found, wanted)
    blocks = []
    for table in TABLES:
        here = [hook for hook in Hook if hook in touched and PLACES[hook].table == table]
        lines = [*_table(here, found, wanted, markers), *_spent_chains(table, found, wanted)]
        if lines and table not in spent:
            blocks.append("\n".join((f"*{table}", *lines, "COMMIT", "")))
    return "".join(blocks)


def _missing(found: State, wanted: State) -> frozenset[str]:
    if found.present is None:
        return frozenset()
    places = [PLACES[hook] for hook in wanted.chains]
    needed = {name for place in places for name in (place.table, f"{place.table} {place.builtin}")}
    return frozenset(needed - found.present)


def _table(here: list[Hook], found: State, wanted: State, markers: tuple[str, ...]) -> list[str]:
    """One table's part of a transaction, for the chains that change."""
    none = Chain(())
    before = {hook: found.chains.get(hook, none) for hook in here}
    after = {hook: wanted.chains.get(hook, none) for hook in here}
    moved = [hook for hook in here if before[hook].jumps != after[hook].jumps]
    inserts = sorted((jump for hook in moved for jump in after[hook].jumps), key=lambda jump: jump.position)
    kept = [hook for hook in here if hook in wanted.chains]
    return [
        *(f":{PLACES[hook].chain} - [0:0]" for hook in here),  # makes a chain, or empties it
        *(f"-D {jump.chain} {jump.rule}" for hook in moved for jump in before[hook].jumps),
        *(f"-A {PLACES[hook].chain} {rule}" for hook in kept for rule in (*after[hook].rules, *markers)),
        *(f"-I {jump.chain} {jump.position} {jump.rule}" for jump in inserts),
        *(f"-X {PLACES[hook].chain}" for hook in here if hook not in kept),
    ]


def _spent_chains(table: str, found: State, wanted: State) -> list[str]:
    """Base chains that go with the last of qfilter's chains."""
    builtin = [name.split() for name in sorted(found.spent) if " " in name]
    return [] if wanted.chains else [f"-X {chain}" for where, chain in builtin if where == table]

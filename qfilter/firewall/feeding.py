"""Which queues the chains that stand feed, and what becomes of packets while nobody holds one of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from qfilter.firewall.looking import Installed
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.netlink.queues import BoundQueue, holder

_IP_QUEUE = Path("/proc/thread-self/net/ip_queue")
_QUEUES = re.compile(r"-j NFQUEUE --queue-(?:num|balance) (\d+)(?::(\d+))?|^queue (?:flags \S+ )?to (\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Packets of a hook that are queued."""

    hook: Hook
    first: int
    last: int
    """Each packet gets one queue of these."""
    bypass: bool
    """Whether packets pass by a queue that nobody holds; otherwise they are dropped."""


def feeds(found: Installed) -> tuple[Feed, ...]:
    """What the chains that were found queue, each hook's once for every tool and family that differs."""
    read = (
        _feed(hook, rule)
        for state in found.states.values()
        for hook, chain in state.chains.items()
        for rule in chain.rules
    )
    return tuple(dict.fromkeys(feed for feed in read if feed is not None))


def unheld(found: Iterable[Feed], held: Collection[int]) -> Iterator[str]:
    """A sentence for each queue that is fed and not among the `held`."""
    lacking = sorted(
        (number, feed.last > feed.first, feed.bypass, list(Hook).index(feed.hook))
        for feed in found
        for number in range(feed.first, feed.last + 1)
        if number not in held
    )
    for (number, several, bypass), group in groupby(lacking, lambda each: each[:3]):
        hooks = ", ".join(list(Hook)[index] for *_, index in group)
        packets = f"every packet on {hooks}" + (" that it gets" if several else "")
        yield f"no process holds queue {number}: {packets} {_outcome(bypass)}"


def unserved(rules: KernelRules, held: Collection[int]) -> str | None:
    """What to know after rules were installed whose queues are not all `held`; None when they are."""
    queues = range(rules.first, rules.last + 1)
    lacking = [number for number in queues if number not in held]
    if not lacking:
        return None
    names = f"queue{'s' if len(lacking) > 1 else ''} {', '.join(map(str, lacking))}"
    share = "everything" if len(lacking) == len(queues) else "their share"
    packets = f"{share} on {', '.join(rules.hooks)} {_outcome(rules.bypass)}"
    return f"nobody holds {names}: {packets} until `qfilter run --no-install` serves; undo: `qfilter remove`"


def served_by_others(found: Installed, rules: KernelRules, held: Mapping[int, BoundQueue]) -> Iterator[str]:
    """A sentence for each queue that the standing rules feed, somebody serves, and `rules` would feed no longer."""
    fed = {number for feed in feeds(found) for number in range(feed.first, feed.last + 1)}
    for number in sorted((fed & held.keys()) - set(range(rules.first, rules.last + 1))):
        yield (
            f"the rules that stand feed queue {number}, which {holder(held[number].port_id)} holds, "
            "and these would feed it no longer: end that process first, or take its rules away by `qfilter remove`"
        )


def _outcome(bypass: bool) -> str:
    return "passes unjudged" if bypass else "is dropped"


def _feed(hook: Hook, rule: str) -> Feed | None:
    if rule == "-j QUEUE":
        # Before Linux 3.5 it may lead to ip_queue, and no table shows whether anybody listens there.
        return None if _IP_QUEUE.exists() else Feed(hook=hook, first=0, last=0, bypass=False)
    found = _QUEUES.search(rule)
    if found is None:
        return None
    first, *last = (int(number) for number in found.groups() if number is not None)
    return Feed(hook=hook, first=first, last=last[0] if last else first, bypass="bypass" in rule)

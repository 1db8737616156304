"""Which tools can really install qfilter's rules here: each is tried in a network namespace that ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qfilter.errors import FirewallError
from qfilter.firewall import backends, tools
from qfilter.firewall.looking import BACKENDS
from qfilter.firewall.state import State
from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Target

_UNTOUCHED = State(present=frozenset())


def probe() -> tuple[Mapping[Backend, frozenset[Target]], Mapping[Backend, str]]:
    """The tools that work, in order of preference, with the targets that each can install; and why others cannot.

    First what the system's own `iptables` is, then the other kind, then nft. The host's rules are neither read nor
    changed, and no privilege is needed where user namespaces are allowed. Never raises for a tool that fails.
    """
    able: dict[Backend, frozenset[Target]] = {}
    problems: dict[Backend, str] = {}
    for backend in sorted(BACKENDS, key=_preference):
        failures = {target: _failure(backend, target) for target in Target}
        targets = frozenset(target for target, failure in failures.items() if failure is None)
        if targets:
            able[backend] = targets
        reasons = dict.fromkeys(failure for failure in failures.values() if failure is not None)
        if reasons:
            problems[backend] = "; ".join(reasons)
    return able, problems


def _preference(backend: Backend) -> int:
    try:
        return (tools.default_kind(), *BACKENDS).index(backend)
    except FirewallError:
        return BACKENDS.index(backend)


def _failure(backend: Backend, target: Target) -> str | None:
    """Why a tool cannot install a target; None when it can."""
    rules = KernelRules(backend=backend, target=target, hooks=(Hook.INPUT,))
    try:
        _try(rules)
    except FirewallError as error:
        if tools.is_missing(error):
            return f"{error}"
        words = " ".join(error.output.replace("^", "").split())
        if tools.is_unsupported(words) and _works(backend):
            return f"this kernel has no {_statement(backend, target)}: {words}"
        return f"not supported: {words}" if tools.is_unsupported(words) else f"broken: {words}"
    return None


def _works(backend: Backend) -> bool:
    """Whether the tool can make chains at all: then what failed is the target."""
    try:
        _try(KernelRules(backend=backend, target=Target.NFQUEUE, hooks=(Hook.INPUT,)), chains_only=True)
    except FirewallError:
        return False
    return True


def _try(rules: KernelRules, *, chains_only: bool = False) -> None:
    for ruleset in backends.rulesets(rules.backend):
        wanted = backends.desired(rules, ruleset)
        if chains_only:
            wanted = State(chains={hook: replace(chain, rules=()) for hook, chain in wanted.chains.items()})
        for command in backends.commands(ruleset, _UNTOUCHED, wanted):
            tools.run_apart(command)


def _statement(backend: Backend, target: Target) -> str:
    if backend is Backend.NFT or (backend is Backend.IPTABLES_NFT and target is Target.QUEUE):
        return "queue statement for nft (CONFIG_NFT_QUEUE)"
    return f"target {target.name}"

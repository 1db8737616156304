"""Make the kernel's rules what they should be, or make them go; the desired state is the only thing to know.

Each ruleset changes in one transaction. What fails half-way on `install` is put back as it was found, so that IPv4 and
IPv6 stand together or not at all; `remove` goes on to the others, for it must leave as little as it can.
"""

from __future__ import annotations

from qfilter.errors import FirewallError
from qfilter.firewall import backends, tools
from qfilter.firewall.feeding import served_by_others
from qfilter.firewall.looking import Installed, installed, look
from qfilter.firewall.state import NOTHING, Ruleset, State, changes
from qfilter.firewall.state import differences as state_differences
from qfilter.model.plan import KernelRules
from qfilter.netlink.queues import bound_queues


def differences(rules: KernelRules | None, found: Installed, *, anywhere: bool = False) -> tuple[str, ...]:
    """What keeps the kernel from being as `rules` say, or free of qfilter (None): a line each.

    With `anywhere` a jump may stand behind rules of others.
    """
    lines = [f"{ruleset}: {found.absent[ruleset]}" for ruleset in _needed(rules) if ruleset in found.absent]
    for ruleset, state in found.states.items():
        lines += state_differences(ruleset, state.jumps_first() if anywhere else state, _wanted(rules, ruleset))
    return tuple(lines)


def install(rules: KernelRules) -> tuple[str, ...]:
    """Make the kernel's rules as `rules` say, all families or none; returns what it changed, a line each, often none.

    Rules of qfilter's under another tool are removed after the new ones stand. Raises PrivilegeError, or FirewallError
    after everything that was done has been undone.
    """
    tools.require_privilege("installing kernel rules")
    before = installed()
    _judge(before, rules)
    done: list[_Done] = []
    try:
        for ruleset in sorted(before.states, key=lambda each: each.backend is not rules.backend):
            steps = backends.change(ruleset, before.states[ruleset], _wanted(rules, ruleset))
            done.extend((ruleset, step) for step in steps)
        after = installed() if done else before
        # who writes before our jump at this moment does not undo it: `Watch` tells
        left = differences(rules, after, anywhere=True) if done else ()
        if left:
            raise FirewallError("install", f"the tools succeeded, but {'; '.join(left)}")
    except FirewallError as error:
        raise FirewallError(error.command, f"{error.output}\n{_undo(before)}") from None
    except BaseException:
        _undo(before)
        raise
    return _told(done, before, after)


def _judge(found: Installed, rules: KernelRules) -> None:
    """Raises FirewallError where rules can or must not be written."""
    for ruleset in _needed(rules):
        if ruleset in found.absent:
            raise found.absent[ruleset]
        if found.states[ruleset].unreadable:
            raise FirewallError(f"write {ruleset}", found.states[ruleset].unreadable)
    others = tuple(served_by_others(found, rules, bound_queues()))
    if others:
        raise FirewallError("install", "\n".join(others))


def remove() -> tuple[str, ...]:
    """Remove everything of qfilter's under every tool; returns what it removed, a line each.

    Needs no memory of what was installed, and leaves what others wrote as it is. A tool that is missing or broken does
    not keep it from removing what other tools show. Raises PrivilegeError, or FirewallError with each ruleset that
    something is left in or that cannot be looked at.
    """
    tools.require_privilege("removing kernel rules")
    before = look()
    done: list[_Done] = []
    failed: list[FirewallError] = []
    for ruleset, state in before.states.items():
        try:
            done.extend((ruleset, step) for step in backends.change(ruleset, state, NOTHING))
        except FirewallError as error:
            failed.append(error)
    after = look()
    told = _told(done, before, after)
    left = (*differences(None, after), *after.unseen)
    if failed or left:
        raise FirewallError("remove", "\n".join((*map(str, failed), *left, *told)))
    return told


_Done = tuple[Ruleset, str]


def _told(done: list[_Done], before: Installed, after: Installed) -> tuple[str, ...]:
    """What steps changed, by what stood before and stands after; the step itself where no chain changed."""
    lines: list[str] = []
    for ruleset in dict.fromkeys(ruleset for ruleset, _ in done):
        ran = (f"{ruleset}: {step}" for each, step in done if each == ruleset)
        lines += changes(ruleset, before.states[ruleset], after.states.get(ruleset, NOTHING)) or ran
    return tuple(lines)


def _needed(rules: KernelRules | None) -> tuple[Ruleset, ...]:
    return () if rules is None else backends.rulesets(rules.backend)


def _wanted(rules: KernelRules | None, ruleset: Ruleset) -> State:
    return NOTHING if rules is None else backends.desired(rules, ruleset)


def _undo(before: Installed) -> str:
    """Put every ruleset back as it was, and say so; what cannot be put back is said too."""
    undone: list[str] = []
    failed: list[str] = []
    for ruleset, state in reversed(tuple(before.states.items())):
        try:
            undone.extend(f"{ruleset}" for _ in backends.change(ruleset, backends.read(ruleset), state))
        except FirewallError as error:
            failed.append(f"{ruleset} could not be put back: {error}")
    back = [f"put back as it was: {', '.join(dict.fromkeys(undone))}"] if undone else []
    return "\n".join((*back, *failed)) or "nothing had changed"

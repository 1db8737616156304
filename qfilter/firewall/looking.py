"""What stands in the kernel, in every ruleset of every tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qfilter.errors import FirewallError
from qfilter.firewall import backends, tools, traces
from qfilter.firewall.state import Ruleset, State
from qfilter.model.policy import Backend

BACKENDS = tuple(backend for backend in Backend if backend is not Backend.AUTO)


@dataclass(frozen=True, slots=True)
class Installed:
    """What was found, by ruleset. Rulesets of tools that are not here, or not in this kernel, hold nothing."""

    states: Mapping[Ruleset, State]
    absent: Mapping[Ruleset, FirewallError] = field(default_factory=dict)
    """Why a ruleset could not be read: its tool or its part of the kernel is missing."""
    broken: Mapping[Ruleset, FirewallError] = field(default_factory=dict)
    """Why a ruleset could not be read: its tool is there and fails."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The tools under which something of qfilter's stands."""
        return tuple(dict.fromkeys(ruleset.backend for ruleset, state in self.states.items() if state.chains))

    @property
    def unseen(self) -> tuple[str, ...]:
        """A line for each ruleset that may hold something of qfilter's and cannot be looked at."""
        missing = ((each, why) for each, why in self.absent.items() if tools.is_missing(why) and traces.may_hold(each))
        return tuple(f"{ruleset}: cannot be looked at: {why}" for ruleset, why in (*self.broken.items(), *missing))


def installed() -> Installed:
    """What stands now. Changes nothing. Raises PrivilegeError, and FirewallError when a tool breaks."""
    tools.require_privilege("reading kernel rules")
    found = look()
    for error in found.broken.values():
        raise error
    return found


def look() -> Installed:
    """The same, with what breaks in `broken`."""
    states: dict[Ruleset, State] = {}
    absent: dict[Ruleset, FirewallError] = {}
    broken: dict[Ruleset, FirewallError] = {}
    for ruleset in (ruleset for backend in BACKENDS for ruleset in backends.rulesets(backend)):
        try:
            states[ruleset] = backends.read(ruleset)
        except FirewallError as error:
            kind = absent if tools.is_unsupported(error.output) else broken
            kind[ruleset] = error
    return Installed(states, absent, broken)

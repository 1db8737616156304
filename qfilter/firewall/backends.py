"""One face for the three tools: read what stands, and the commands that turn it into what should."""

from __future__ import annotations

from qfilter.errors import FirewallError
from qfilter.fields import Family
from qfilter.firewall import iptables, nftables, tools, traces
from qfilter.firewall.state import NOTHING, Command, Ruleset, State
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend

IPTABLES = (Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT)


def rulesets(backend: Backend) -> tuple[Ruleset, ...]:
    """What one tool keeps apart: a ruleset a family, or nft's one for both."""
    return (
        tuple(Ruleset(backend, family) for family in tools.families())
        if backend in IPTABLES
        else (Ruleset(backend, None),)
    )


def desired(rules: KernelRules, ruleset: Ruleset) -> State:
    """What should stand in a ruleset: nothing in those of the other tools."""
    if ruleset.backend is not rules.backend:
        return NOTHING
    return nftables.desired(rules) if ruleset.family is None else iptables.desired(rules, ruleset.family)


def read(ruleset: Ruleset) -> State:
    """What stands. Reading makes nothing: no table, no base chain. Raises FirewallError, as `tools.run` does."""
    if ruleset.family is None:
        return _read_nft()
    if ruleset.backend is Backend.IPTABLES_LEGACY:
        return _read_legacy(ruleset.family)
    saved = tools.run(Command((tools.iptables(ruleset.backend, ruleset.family).save,)))
    return iptables.parse(saved, _base_chains(ruleset.family))


def commands(ruleset: Ruleset, found: State, wanted: State) -> tuple[Command, ...]:
    """What turns `found` into `wanted`; none when nothing is to be done."""
    if ruleset.family is None:
        return _nft(nftables.script(found, wanted))
    kind = nftables.IPTABLES_FAMILY[ruleset.family]
    spent = "".join(f"delete table {kind} {table}\n" for table in iptables.spent_tables(found, wanted))
    text = iptables.restore_text(found, wanted)
    return (*_nft(spent), *_restore(ruleset.backend, ruleset.family, text))


def _restore(backend: Backend, family: Family, text: str) -> tuple[Command, ...]:
    # a machine without the other kind of iptables has nothing to ask it for
    if not text:
        return ()
    return (Command((tools.iptables(backend, family).restore, "--noflush", "-w", str(tools.LOCK_WAIT)), text),)


def _nft(script: str) -> tuple[Command, ...]:
    return (Command((tools.nft(), "-f", "-"), script),) if script else ()


def _read_legacy(family: Family) -> State:
    # iptables-legacy-save reads the same list, and asking for a table by name would make it
    if not traces.has_legacy_tables(family):
        return NOTHING
    return iptables.parse(tools.run(Command((tools.iptables(Backend.IPTABLES_LEGACY, family).save,))))


def _read_nft() -> State:
    nft = tools.nft()
    if not nftables.has_table(tools.run(Command((nft, "--json", "list", "tables")))):
        return NOTHING
    return nftables.parse(tools.run(Command((nft, "--json", "list", "table", *nftables.TABLE.split()))))


def _base_chains(family: Family) -> frozenset[str] | None:
    try:
        nft = tools.nft()
    except FirewallError:
        return None
    return nftables.base_chains(tools.run(Command((nft, "--json", "list", "chains"))), family)

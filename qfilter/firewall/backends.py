"""One face for the three tools: read what stands, and the commands that turn it into what should."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace

from qfilter.errors import FirewallError
from qfilter.fields import Family
from qfilter.firewall import iptables, nftables, tools, traces
from qfilter.firewall.state import NOTHING, Command, Ruleset, State
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend
from qfilter.netlink import nf_tables, nfnetlink
from qfilter.text import escaped

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
    """What stands. Reading makes nothing: no table, no base chain.

    Raises FirewallError, as `tools.run` does, and for what a tool printed that cannot be understood.
    """
    try:
        if ruleset.family is None:
            return _read_nft()
        if ruleset.backend is Backend.IPTABLES_LEGACY:
            return _read_legacy(ruleset.family)
        return _read_iptables_nft(ruleset.family)
    except (ValueError, LookupError) as error:
        why = f"what its tool printed cannot be understood: {type(error).__name__}: {error}"
        raise FirewallError(f"read {ruleset}", escaped(why)) from error


def commands(ruleset: Ruleset, found: State, wanted: State) -> tuple[Command, ...]:
    """What turns `found` into `wanted`; none when nothing is to be done."""
    if ruleset.family is None:
        return _nft(nftables.script(found, wanted))
    if not found.unreadable:
        return _restore(ruleset.backend, ruleset.family, iptables.restore_text(found, wanted))
    if wanted.chains:
        raise FirewallError(f"write {ruleset}", found.unreadable)
    return _nft(nftables.removal(found, ruleset.family))


def change(ruleset: Ruleset, found: State, wanted: State) -> Iterator[str]:
    """Turn `found` into `wanted`, and say each step that was done. Raises FirewallError.

    What qfilter made goes only when nobody uses it: when others write at this moment, it stays with what is theirs.
    """
    if found.spent and not wanted.chains:
        try:
            yield from _change(ruleset, read(ruleset), wanted)
            return
        except FirewallError:
            found = replace(read(ruleset), spent=frozenset())
    yield from _change(ruleset, found, wanted)


def _change(ruleset: Ruleset, found: State, wanted: State) -> Iterator[str]:
    tables = iptables.spent_tables(found, wanted)
    if tables:
        yield _delete_tables(tables, ruleset, found)
    for command in commands(ruleset, found, wanted):
        _run(command, ruleset, found)
        yield command.text.strip() or str(command)


def _delete_tables(tables: tuple[str, ...], ruleset: Ruleset, found: State) -> str:
    what = f"delete tables {', '.join(tables)}"
    if found.generation is None:
        raise FirewallError(what, "the kernel does not say when they were looked at")
    assert ruleset.family is not None
    chains = {table: iptables.own_chains(table, found) for table in tables}
    try:
        nf_tables.delete_tables(nfnetlink.Family[ruleset.family.name], chains, found.generation)
    except OSError as error:
        changed = error.errno == errno.ERESTART
        raise FirewallError(what, "others changed rules meanwhile" if changed else str(error.strerror)) from None
    return what


def _run(command: Command, ruleset: Ruleset, found: State) -> None:
    try:
        tools.run(command)
    except FirewallError as error:
        if not found.unreadable or ruleset.family is None:
            raise
        raise FirewallError(error.command, f"{error.output}\n{nftables.by_hand(found, ruleset.family)}") from None


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


def _read_iptables_nft(family: Family) -> State:
    seen = nf_tables.generation()  # before anything is read: see delete_tables
    saved = tools.run(Command((tools.iptables(Backend.IPTABLES_NFT, family).save,)))
    if names := iptables.unreadable(saved):
        kind = nftables.IPTABLES_FAMILY[family]
        listed = tools.run(Command((tools.nft(), "--json", "--handle", "list", "ruleset", kind)))
        return nftables.among_native(listed, _unreadable(kind, names))
    return replace(iptables.parse(saved, _base_chains(family)), generation=seen)


def _unreadable(kind: str, names: tuple[str, ...]) -> str:
    tables = " and ".join(f"`table {kind} {name}`" for name in names)
    return (
        f"nft has put rules into {tables} that iptables-nft cannot read, and so cannot write beside: "
        "move them into a table of their own, or choose another backend"
    )


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

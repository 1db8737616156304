"""Whether the kernel holds rules that no tool is here to show: asked without any tool, where one is missing."""

from __future__ import annotations

from pathlib import Path

from qfilter.fields import Family
from qfilter.firewall.state import PLACES, Ruleset
from qfilter.model.policy import Backend
from qfilter.netlink import nf_tables, nfnetlink

_LEGACY_TABLES = {Family.IPV4: "ip_tables_names", Family.IPV6: "ip6_tables_names"}
_OURS = {place.chain for place in PLACES.values()}


def has_legacy_tables(family: Family) -> bool:
    """Whether any table of iptables-legacy was made in the thread's network namespace."""
    names = Path("/proc/thread-self/net", _LEGACY_TABLES[family])
    return names.exists() and bool(names.read_text(encoding="ascii"))


def may_hold(ruleset: Ruleset) -> bool:
    """Whether chains of qfilter's may stand there. For legacy tables that is when there are any."""
    if ruleset.backend is Backend.IPTABLES_LEGACY:
        assert ruleset.family is not None
        return has_legacy_tables(ruleset.family)
    try:
        family = nfnetlink.Family.INET if ruleset.family is None else nfnetlink.Family[ruleset.family.name]
        chains = nf_tables.chains(family)
    except OSError:
        return True  # the kernel would not say
    return any(table == "qfilter" if ruleset.family is None else chain in _OURS for table, chain in chains)

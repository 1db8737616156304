"""Whether the kernel holds rules that no tool is here to show: asked without any tool, where one is missing."""

from __future__ import annotations

import struct
from pathlib import Path

from qfilter.fields import Family
from qfilter.firewall.generation import FAMILIES
from qfilter.firewall.state import PLACES, Ruleset
from qfilter.model.policy import Backend
from qfilter.netlink.channel import Channel
from qfilter.netlink.message import DONE, DUMP, ERROR, decode_attributes, decode_messages
from qfilter.netlink.nfnetlink import NETLINK_NETFILTER

_LEGACY_TABLES = {Family.IPV4: "ip_tables_names", Family.IPV6: "ip6_tables_names"}

# linux/netfilter/nf_tables.h, nfnetlink.h
_GETCHAIN = 10 << 8 | 4
_NFGEN = struct.Struct("!BBH")
_CHAIN_TABLE, _CHAIN_NAME = 1, 3
_INET = 1
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
        chains = _chains(_INET if ruleset.family is None else FAMILIES[ruleset.family])
    except OSError:
        return True  # the kernel would not say
    return any(table == "qfilter" if ruleset.family is None else chain in _OURS for table, chain in chains)


def _chains(family: int) -> list[tuple[str, str]]:
    """The tables and names of nf_tables' chains of a family; none where the kernel has no nf_tables. Raises OSError."""
    channel = Channel.open(NETLINK_NETFILTER)
    try:
        channel.send(_GETCHAIN, _NFGEN.pack(family, 0, 0), DUMP)
        found: list[tuple[str, str]] = []
        while (datagram := channel.receive()) is not None:
            for message in decode_messages(datagram.data):
                if message.type in (DONE, ERROR):
                    return found
                attributes = dict(decode_attributes(message.body, _NFGEN.size))
                found.append((_text(attributes[_CHAIN_TABLE]), _text(attributes[_CHAIN_NAME])))
        raise OSError("the list of chains ended early")
    finally:
        channel.close()


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")

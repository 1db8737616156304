"""What each answer of a policy is called by the firewall tools, in either family.

A family that lacks an answer gives the nearest that it has: ICMPv6 does not tell networks from hosts, ICMP has no
policies and source routes. Sources: RFC 792, RFC 1812 section 5.2.7, RFC 4443 section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from qfilter.fields import Family
from qfilter.model.verdict import RejectWith

UNREACHABLE: Mapping[RejectWith, Mapping[Family, str]] = {
    answer: {Family.IPV4: v4, Family.IPV6: v6}
    for answer, v4, v6 in (
        # tcp-reset: what anything but TCP is answered with
        (RejectWith.TCP_RESET, "port-unreachable", "port-unreachable"),
        (RejectWith.PORT_UNREACHABLE, "port-unreachable", "port-unreachable"),
        (RejectWith.HOST_UNREACHABLE, "host-unreachable", "addr-unreachable"),
        (RejectWith.NO_ROUTE, "net-unreachable", "no-route"),
        (RejectWith.ADMIN_PROHIBITED, "admin-prohibited", "admin-prohibited"),
        (RejectWith.NET_UNREACHABLE, "net-unreachable", "no-route"),
        (RejectWith.PROT_UNREACHABLE, "prot-unreachable", "port-unreachable"),
        (RejectWith.NET_PROHIBITED, "net-prohibited", "admin-prohibited"),
        (RejectWith.HOST_PROHIBITED, "host-prohibited", "admin-prohibited"),
        (RejectWith.ADDR_UNREACHABLE, "host-unreachable", "addr-unreachable"),
        (RejectWith.POLICY_FAIL, "admin-prohibited", "policy-fail"),
        (RejectWith.REJECT_ROUTE, "net-unreachable", "reject-route"),
    )
}
"""By nft's names, which are those of the ICMP and ICMPv6 destination-unreachable codes."""

_IPTABLES_SPELLING = {
    Family.IPV4: ("icmp-", {"prot-unreachable": "proto-unreachable"}),
    Family.IPV6: ("icmp6-", {"admin-prohibited": "adm-prohibited"}),
}


def nft_name(answer: RejectWith, family: Family) -> str:
    """What stands behind nft's `reject with`."""
    return f"{'icmp' if family is Family.IPV4 else 'icmpv6'} type {UNREACHABLE[answer][family]}"


def iptables_name(answer: RejectWith, family: Family) -> str:
    """What stands behind `-j REJECT --reject-with`."""
    prefix, spelling = _IPTABLES_SPELLING[family]
    name = UNREACHABLE[answer][family]
    return prefix + spelling.get(name, name)

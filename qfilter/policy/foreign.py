"""Words of iptables, ufw, pf, nftables and tcpdump, and what they are called here: for suggestions, never taken."""

from __future__ import annotations

from qfilter.fields import FIELDS
from qfilter.model.verdict import Kind
from qfilter.policy.problems import nearest

_FIELDS = {
    "saddr": ("s", "src", "source", "sip", "src ip", "ip src", "ip saddr", "source ip", "source address", "from"),
    "daddr": ("d", "dst", "dest", "destination", "dip", "dst ip", "ip dst", "ip daddr", "destination address", "to"),
    "sport": ("src port", "source port", "sports", "tcp sport", "udp sport", "spt"),
    "dport": ("port", "ports", "dst port", "dest port", "destination port", "dports", "tcp dport", "udp dport", "dpt"),
    "protocol": ("p", "proto", "ip proto", "ip protocol", "l4proto", "meta l4proto"),
    "iifname": ("i", "in", "iif", "in interface", "input interface", "interface", "indev", "meta iifname"),
    "oifname": ("o", "out", "oif", "out interface", "output interface", "outdev", "meta oifname"),
    "hwaddr": ("mac", "mac source", "src mac", "ether saddr"),
    "ct.state": ("state", "ct", "ctstate", "conntrack", "connection state"),
    "ct.mark": ("ctmark", "connmark"),
    "ttl": ("hoplimit", "hop limit", "ip ttl"),
    "tcp.flags": ("flags", "tcp flags", "tcpflags"),
}
_VERDICTS = {Kind.ACCEPT: ("allow", "pass", "permit"), Kind.DROP: ("deny", "block", "discard", "blackhole")}

_FIELD_OF = {word: field for field, words in _FIELDS.items() for word in words}
_VERDICT_OF = {word: kind for kind, words in _VERDICTS.items() for word in words}


def field_meant(word: str, others: tuple[str, ...] = ()) -> str | None:
    """The field, or one of the other keys, that was probably meant; None for no idea."""
    same = _spaced(word)
    known = {_spaced(field): field for field in FIELDS}
    return known.get(same) or _FIELD_OF.get(same) or nearest(word.lower(), (*FIELDS, *others))


def verdict_meant(word: str) -> str | None:
    """The kind of verdict that was probably meant."""
    lower = word.lower()
    return _VERDICT_OF.get(lower) or nearest(lower, Kind)


def _spaced(word: str) -> str:
    """`dst-port`, `dst_port`, `--dst.port` and `DST port` are one."""
    return " ".join(word.lower().replace("-", " ").replace("_", " ").replace(".", " ").split())

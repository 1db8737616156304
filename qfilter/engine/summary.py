"""A packet in five fields, for events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address

from qfilter.engine.value import Value

_FIELDS = ("saddr", "daddr", "sport", "dport", "protocol")


def summary(read: Callable[[str], Value]) -> Mapping[str, int | IPv4Address | IPv6Address]:
    """Addresses, ports and protocol, as far as the packet has them and they are known; also of a malformed packet."""
    values = {name: read(name) for name in _FIELDS}
    return {name: value for name, value in values.items() if isinstance(value, int | IPv4Address | IPv6Address)}

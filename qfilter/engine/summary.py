"""A packet in five fields, for events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address

SUMMARY = ("saddr", "daddr", "sport", "dport", "protocol")
"""Names of the fields."""


def summary(values: Iterable[object]) -> Mapping[str, int | IPv4Address | IPv6Address]:
    """The fields by name, as far as the packet has them and they are known; `values` in the order of SUMMARY."""
    named = zip(SUMMARY, values, strict=True)
    return {name: value for name, value in named if isinstance(value, int | IPv4Address | IPv6Address)}

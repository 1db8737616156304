"""A SYN scan by scapy, in a process of its own inside the namespace: scapy reads routes when it is imported."""

from __future__ import annotations

from enum import StrEnum


class PortState(StrEnum):
    """What a SYN to a port brought back."""

    OPEN = "open"
    CLOSED = "closed"
    """A reset."""
    PROHIBITED = "prohibited"
    """An ICMP error."""
    FILTERED = "filtered"
    """Nothing."""


def syn_scan(target: str, ports: list[int], timeout: float) -> dict[int, PortState]:
    """The state of each port, in the order given. Needs root; call it through `clients.scan`."""
    # Here, not above: importing scapy takes most of a second, and only this child needs it.
    from scapy.layers.inet import IP, TCP  # noqa: PLC0415
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415
    from scapy.sendrecv import sr  # noqa: PLC0415

    network = IPv6(dst=target) if ":" in target else IP(dst=target)
    answered, _ = sr(network / TCP(sport=40_000, dport=ports, flags="S"), timeout=timeout, verbose=0)
    states = dict.fromkeys(ports, PortState.FILTERED)
    for sent, received in answered:
        states[sent[TCP].dport] = _state(received[TCP].flags.value if TCP in received else None)
    return states


def _state(flags: int | None) -> PortState:
    syn, reset, acknowledge = 0x02, 0x04, 0x10
    if flags is None:
        return PortState.PROHIBITED
    if flags & reset:
        return PortState.CLOSED
    return PortState.OPEN if flags & (syn | acknowledge) == syn | acknowledge else PortState.FILTERED

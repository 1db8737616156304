"""`scapy.<Layer>.<field>`: scapy dissects the whole packet, and every layer of that class is asked."""

from __future__ import annotations

import logging

from scapy.config import conf
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as ScapyPacket

from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.value import ABSENT, Absent, Partial, Unknown
from qfilter.fields import Family
from qfilter.model.verdict import Reason
from qfilter.scapy_layers import values

_MAX_LAYERS = 256
"""Layers of one packet that are looked at; scapy's lists of records are layers too."""

# A packet that scapy gives up on must not pass for one without the layer: it has the outcome of the cause `error`.
conf.debug_dissector = True
logging.getLogger("scapy.runtime").setLevel(logging.CRITICAL)


def dissect(decoded: Decoded) -> ScapyPacket:
    """The packet as scapy sees it: up to the length that IP claims, as far as it was copied."""
    data = decoded.packet.data[: decoded.here]
    return IP(data) if decoded.family is Family.IPV4 else IPv6(data)


def read_scapy(
    decoded: Decoded, dissected: ScapyPacket, layer: str, field: str
) -> tuple[int | bytes, ...] | Partial | Unknown | Absent:
    """The values of a field in every layer of that class; absent without one, unknown where bytes are missing."""
    found = [each for each in _layers(dissected) if type(each).__name__ == layer]
    known = tuple(value for each in found for value in values(each, field))
    rest = _missing(decoded, f"scapy.{layer}.{field}")
    if rest is not None:
        return Partial(known, None, rest)
    return known if found else ABSENT


def _missing(decoded: Decoded, detail: str) -> Unknown | None:
    if decoded.fragment is not Fragment.WHOLE:
        return Unknown(Reason.FRAGMENT, detail)
    return Unknown(Reason.TRUNCATED, detail) if decoded.here < decoded.end else None


def _layers(packet: ScapyPacket) -> list[ScapyPacket]:
    """The packet's layers and the records inside them, in the packet's order."""
    layers: list[ScapyPacket] = []
    waiting: list[ScapyPacket] = [packet]
    while waiting:
        if len(layers) == _MAX_LAYERS:
            raise ValueError(f"more than {_MAX_LAYERS} layers")
        layer = waiting.pop(0)
        layers.append(layer)
        held = [layer.getfieldval(field.name) for field in layer.fields_desc if field.holds_packets]
        records = [each for value in held for each in (value if isinstance(value, list) else [value])]
        waiting = [*(each for each in (*records, layer.payload) if _is_layer(each)), *waiting]
    return layers


def _is_layer(what: object) -> bool:
    return isinstance(what, ScapyPacket) and type(what).__name__ != "NoPayload"

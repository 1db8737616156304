"""`scapy.<Layer>.<field>`: scapy dissects the whole packet, and every layer of that class is asked."""

from __future__ import annotations

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import NoPayload
from scapy.packet import Packet as ScapyPacket

from qfilter.engine.decoded import Decoded, Fragment
from qfilter.engine.scapy_guard import guarded
from qfilter.engine.value import ABSENT, Absent, Unknown
from qfilter.fields import Family
from qfilter.model.verdict import Reason
from qfilter.scapy_layers import layer_class, values

_MAX_LAYERS = 256
"""Layers of one packet that are looked at; scapy's lists of records are layers too."""


def missing(decoded: Decoded, layer: str, field: str) -> Unknown | None:
    """Why scapy cannot be asked about a packet, or None.

    It guesses what a layer is from bytes and lengths: of a part of a packet it may read what the whole does not have.
    """
    detail = f"scapy.{layer}.{field}"
    if decoded.malformed is not None:
        return Unknown(Reason.MALFORMED, decoded.malformed)
    if decoded.fragment is not Fragment.WHOLE:
        return Unknown(Reason.FRAGMENT, detail)
    return Unknown(Reason.TRUNCATED, detail) if decoded.here < decoded.end else None


def dissect(decoded: Decoded) -> tuple[ScapyPacket, ...]:
    """The layers of a packet, and the records inside them, in its order: up to the length that IP claims.

    Raises GaveUpError, and whatever scapy raises.
    """
    data = decoded.packet.data[: decoded.end]
    with guarded():
        return tuple(_layers(IP(data) if decoded.family is Family.IPV4 else IPv6(data)))


def read_scapy(layers: tuple[ScapyPacket, ...], layer: str, field: str) -> tuple[int | bytes, ...] | Absent:
    """The values of a field in every layer of that class; absent where no such layer has it."""
    wanted = layer_class(layer)
    having = [each for each in layers if type(each) is wanted and each.fields.get(field) is not None]
    return tuple(value for each in having for value in values(each, field)) if having else ABSENT


def _layers(packet: ScapyPacket) -> list[ScapyPacket]:
    layers: list[ScapyPacket] = []
    waiting: list[ScapyPacket] = [packet]
    while waiting:
        if len(layers) == _MAX_LAYERS:
            raise ValueError(f"more than {_MAX_LAYERS} layers")
        layer = waiting.pop(0)
        layers.append(layer)
        # Only what was dissected: a field that the packet does not have would answer with its default.
        held = [layer.fields.get(field.name) for field in layer.fields_desc if field.holds_packets]
        records = [each for value in held for each in (value if isinstance(value, list) else [value])]
        found = [each for each in (*records, layer.payload) if isinstance(each, ScapyPacket)]
        # The payload of no payload is itself.
        waiting = [each for each in found if not isinstance(each, NoPayload)] + waiting
    return layers

"""Packets from scapy expressions such as `IP(dst="192.0.2.1")/TCP(dport=80)/"GET"`, for `explain`.

The text is parsed, never evaluated: layers of scapy with plain values, joined by `/`. Nothing else in it can run.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from qfilter.engine.described import from_bytes
from qfilter.errors import PacketError
from qfilter.model.packet import Packet
from qfilter.scapy_layers import UnknownScapyError, layer_class

_EXPECTED = """expected layers of scapy such as IP(dst="192.0.2.1")/TCP(dport=80)/"GET\""""


def from_scapy(expression: str, fields: Mapping[str, object]) -> Packet:
    """The packet that scapy builds from an expression; `fields` has `hook` and metadata. Raises PacketError."""
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
        layers = _layers(tree)
        data = bytes(layers)
    except PacketError:
        raise
    except Exception as error:  # scapy and the parser raise whatever they meet; here it all means the same
        raise PacketError(f"packet {expression!r}: {error}: {_EXPECTED}") from error
    if not isinstance(layers, IP | IPv6):
        raise PacketError(f"packet {expression!r}: expected IP or IPv6 as its first layer")
    return from_bytes(data, fields)


def _layers(node: ast.expr) -> ScapyPacket:
    match node:
        case ast.BinOp(left, ast.Div(), right):
            return _layers(left) / _layers(right)
        case ast.Constant(str() as load):
            return Raw(load.encode())
        case ast.Constant(bytes() as load):
            return Raw(load)
        case ast.Call(ast.Name(name), [], keywords):
            return _layer(name, keywords)
    raise PacketError(f"packet: {ast.unparse(node)!r}: {_EXPECTED}")


def _layer(name: str, keywords: list[ast.keyword]) -> ScapyPacket:
    try:
        layer = layer_class(name)
    except UnknownScapyError as error:
        raise PacketError(f"packet: {error}") from None
    known = [field.name for field in layer.fields_desc]
    found = layer()
    for keyword in keywords:
        if keyword.arg is None or keyword.arg not in known:
            raise PacketError(f"packet: {keyword.arg!r}: expected a field of {name}, {', '.join(known)}")
        found.setfieldval(keyword.arg, _value(keyword.value))
    return found


def _value(node: ast.expr) -> object:
    """A constant, a list or tuple of values, or layers, as in `DNS(qd=DNSQR(qname="example.org"))`."""
    match node:
        case ast.List(items):
            return [_value(item) for item in items]
        case ast.Tuple(items):
            return tuple(_value(item) for item in items)
        case ast.Call() | ast.BinOp():
            return _layers(node)
    return ast.literal_eval(node)

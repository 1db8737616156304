"""qfilter: a userspace packet-verdict firewall for Linux.

import qfilter

policy = qfilter.load("rules/demo.yaml")
verdict = policy.evaluate(qfilter.Packet.from_bytes(data, hook="input", iifname="eth0"))
print(verdict.decision, verdict.reason, verdict.rule, verdict.at)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from qfilter.errors import (
    CaptureError,
    Diagnostic,
    FirewallError,
    PacketError,
    PolicyError,
    Position,
    PrivilegeError,
    QFilterError,
    QueueError,
    QueueTakenError,
    UnsupportedError,
)
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.verdict import Decision, Kind, Reason, RejectWith, Verdict
from qfilter.predicates import predicate

if TYPE_CHECKING:
    from qfilter.api import Policy, load, loads, serve
    from qfilter.daemon import Service

__all__ = [
    "CaptureError",
    "Decision",
    "Diagnostic",
    "FirewallError",
    "Hook",
    "Kind",
    "Packet",
    "PacketError",
    "Policy",
    "PolicyError",
    "Position",
    "PrivilegeError",
    "QFilterError",
    "QueueError",
    "QueueTakenError",
    "Reason",
    "RejectWith",
    "Service",
    "UnsupportedError",
    "Verdict",
    "load",
    "loads",
    "predicate",
    "serve",
]

_LATE = {"Policy": "api", "Service": "daemon", "load": "api", "loads": "api", "serve": "api"}
"""What needs the engine, and with it scapy: a third of a second that only those who use it wait for."""


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'qfilter' has no attribute {name!r}")
    value: object = getattr(import_module(f"qfilter.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

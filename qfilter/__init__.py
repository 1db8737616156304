"""qfilter: a userspace packet-verdict firewall for Linux.

import qfilter

policy = qfilter.load("rules/demo.yaml")
verdict = policy.evaluate(qfilter.Packet.from_bytes(data, hook="input", iifname="eth0"))
print(verdict.decision, verdict.reason, verdict.rule, verdict.at)
"""

from qfilter.api import Policy, load, loads, serve
from qfilter.daemon import Service
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

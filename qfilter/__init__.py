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
    ControlError,
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
    from qfilter.engine.explain import Explanation
    from qfilter.engine.selftest import TestOutcome
    from qfilter.events.outputs import Outputs
    from qfilter.model.report import Report

__all__ = [
    "CaptureError",
    "ControlError",
    "Decision",
    "Diagnostic",
    "Explanation",
    "FirewallError",
    "Hook",
    "Kind",
    "Outputs",
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
    "Report",
    "Service",
    "TestOutcome",
    "UnsupportedError",
    "Verdict",
    "load",
    "loads",
    "predicate",
    "serve",
]

_LATE = {
    "Explanation": "engine.explain",
    "Outputs": "events.outputs",
    "Policy": "api",
    "Report": "model.report",
    "Service": "daemon",
    "TestOutcome": "engine.selftest",
    "load": "api",
    "loads": "api",
    "serve": "api",
}
"""What needs the engine, and with it scapy: a third of a second that only those who use it wait for."""


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'qfilter' has no attribute {name!r}")
    value: object = getattr(import_module(f"qfilter.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

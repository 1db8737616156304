"""The policy compiled for one machine: the desired state of its kernel rules and what its engine must do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qfilter.model.hook import Hook
from qfilter.model.policy import Backend, Exempt, Policy, Target
from qfilter.model.verdict import RejectWith


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this kernel and this build can do; probed in `firewall` and `netlink`, a plain value everywhere else."""

    backends: Mapping[Backend, frozenset[Target]] = field(default_factory=dict)
    """The tools that work here, in order of preference, with the targets that each can install."""
    problems: Mapping[Backend, str] = field(default_factory=dict)
    """Why a tool is not in `backends`, or cannot install one of the targets, for the operator."""
    fail_open: bool = True
    """Whether the queue's consumer can set NFQA_CFG_F_FAIL_OPEN."""
    unreadable: frozenset[str] = frozenset()
    """Fields that no packet from this queue will carry."""
    ip_queue: bool = False
    """Whether the consumer is ip_queue (kernels before 3.5): its verdicts carry neither a mark nor a queue number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRules:
    """What must stand in the kernel so that packets reach the queue: compared as one value, applied as one."""

    backend: Backend
    """Never AUTO."""
    target: Target
    hooks: tuple[Hook, ...]
    """In the order of Hook."""
    first: int = 0
    last: int = 0
    bypass: bool = False
    cpu_fanout: bool = False
    exempt: tuple[Exempt, ...] = ()
    mark_mask: int = 0
    rejects: tuple[RejectWith, ...] = ()
    """The answers that the policy can give, in the order of RejectWith; each is a rule in qfilter's own chain."""


class Place(StrEnum):
    """Where a rule is decided."""

    NATIVE = "native"
    PYTHON = "python"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One policy on one machine. Same policy and capabilities, same plan."""

    policy: Policy
    kernel: KernelRules | None
    """None when the operator keeps rules of their own (`--no-install`) or there is no kernel (replay, test)."""
    mark_mask: int = 0
    """The four bits of the mark that hand rejects back to the kernel; 0 when the policy rejects nothing."""
    ip_queue: bool = False
    """Whether the packets come from ip_queue, see `Capabilities.ip_queue`."""
    copy_range: int
    """Bytes of a packet that a rule can look at, at most 65,531."""
    fail_open: bool
    """Whether the queue must let packets through when it is full."""
    conntrack: bool = False
    """Whether a rule looks at what connection tracking knows, so that the queue must ask for it."""
    places: Mapping[str, Place]
    """By rule id."""

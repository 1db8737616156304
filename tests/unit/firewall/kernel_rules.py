"""Kernel rules that tests share, from the least to everything that a policy can ask for."""

from __future__ import annotations

from qfilter.model.hook import Hook
from qfilter.model.plan import KernelRules
from qfilter.model.policy import Backend, Exempt, Target
from qfilter.model.verdict import RejectWith

IPTABLES = (Backend.IPTABLES_LEGACY, Backend.IPTABLES_NFT)


def least(backend: Backend, *hooks: Hook) -> KernelRules:
    """One queue, nothing else."""
    return KernelRules(backend=backend, target=Target.NFQUEUE, hooks=hooks or (Hook.INPUT,))


def gateway(backend: Backend) -> KernelRules:
    """What a usual policy asks for."""
    return KernelRules(
        backend=backend,
        target=Target.NFQUEUE,
        hooks=(Hook.INPUT, Hook.FORWARD),
        exempt=(Exempt.LO, Exempt.ESTABLISHED),
        mark_mask=0xF000_0000,
        rejects=(RejectWith.TCP_RESET, RejectWith.ADMIN_PROHIBITED),
    )


def everything(backend: Backend) -> KernelRules:
    """Every hook, every answer, every flag."""
    return KernelRules(
        backend=backend,
        target=Target.NFQUEUE,
        hooks=tuple(Hook),
        first=4,
        last=7,
        bypass=True,
        cpu_fanout=True,
        exempt=tuple(Exempt),
        mark_mask=0x0F00,
        rejects=tuple(RejectWith),
    )

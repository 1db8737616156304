"""Packets from the command line: where they are seen, and those of captures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from qfilter.errors import CaptureError
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.queues.captures import CapturedPacket, packet_at


def hook_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--hook`, `--iif` and `--oif`: what bytes alone do not say."""
    options = (
        click.option(
            "--hook",
            type=click.Choice([hook.value for hook in Hook]),
            callback=lambda _context, _option, name: None if name is None else Hook(name),
            help="The hook that sees the packet; without it the first that the policy has a default for.",
        ),
        click.option("--iif", help="Input interface; without it the one that a pcapng names."),
        click.option("--oif", help="Output interface."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def where(policy: Policy, hook: Hook | None) -> Hook:
    """The hook asked for, or the first in force. Raises UsageError for one that the policy has no default for."""
    if hook is None:
        return next(iter(policy.defaults))
    if hook not in policy.defaults:
        known = ", ".join(policy.defaults)
        raise click.UsageError(
            f"hook '{hook}' has no default in this policy, and its packets never come: expected {known}"
        )
    return hook


def check_interfaces(hook: Hook, iif: str | None, oif: str | None) -> None:
    """Raises UsageError for an interface that packets of the hook do not have."""
    for option, field, name in (("--iif", "iifname", iif), ("--oif", "oifname", oif)):
        hooks = FIELDS[field].hooks
        if name is not None and hook not in hooks:
            raise click.UsageError(f"{option} {name!r}: expected a hook that has it, {', '.join(hooks)}, not {hook}")


def to_packet(captured: CapturedPacket, hook: Hook, iif: str | None, oif: str | None) -> Packet:
    """A captured packet as that hook would see it. Its `data` is not None."""
    assert captured.data is not None
    has_iif, has_oif = (hook in FIELDS[name].hooks for name in ("iifname", "oifname"))
    return Packet(
        data=captured.data,
        hook=hook,
        wire_length=captured.wire_length,
        iifname=(iif or captured.interface) if has_iif else None,
        oifname=(oif if has_iif else oif or captured.interface) if has_oif else None,
        timestamp=None if captured.timestamp_ns is None else captured.timestamp_ns / 1e9,
    )


def packet_of_capture(path: str, number: int, hook: Hook, iif: str | None, oif: str | None) -> Packet:
    """The n-th packet of a capture. Raises CaptureError, also when that frame carries no IP, and UsageError."""
    check_interfaces(hook, iif, oif)
    captured = packet_at(path, number)
    if captured.data is None:
        raise CaptureError(f"{path}: packet {number}: a frame without IPv4 or IPv6: expected a packet of one of them")
    return to_packet(captured, hook, iif, oif)

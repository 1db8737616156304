"""Events: one JSON object a line, with keys that stay.

    timestamp   RFC 3339 in UTC with microseconds: the packet's own time where the queue gives one
    type        `verdict`, `failure` (a failure cause decided), `start`, `stop`, `queue`,
                `rules`, `reload`, `lost`
    policy      SHA-256 of the policy in force, hex (of a packet or a service, not of `lost`)

Of `verdict` and `failure`; what a packet does not have is null:

    hook                  as in nftables
    iifname, oifname      interfaces
    saddr, daddr          addresses as text
    sport, dport          numbers
    protocol              the layer-4 protocol's name, or its number as text where it has none
    length                bytes of the packet in the kernel
    verdict               `accept`, `drop`, `reject tcp-reset`, `queue 3`, `repeat`
    reason                `rule`, `default` or the failure cause
    detail                more of a failure cause, such as `tcp-flags` for `malformed`; else empty
    rule, at              the rule's id and file:line:column
    logged                ids of the rules with `log` that matched, in their order
    prefix                their prefixes, with a space between

Of `lost`: `count`, how many events could not be written before this one. `start` and `stop` say what
is in force and what was counted, `queue` what a queue has lost since it was bound. Of `rules`: `differences` between
the kernel rules and the policy's, a sentence each; none when they agree again. Of `reload`, whose `policy` is the one
in force behind it: `file` that was to be put in force, `outcome` (`reloaded` or `refused`), `changes` (what the new
policy means otherwise, a line each) and `problems` (why it was refused, a line each, with file:line:column).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from qfilter.model.packet import Packet
from qfilter.model.verdict import CAUSES, Logged, Verdict
from qfilter.names import protocols

Event = Mapping[str, object]
"""One event by key."""


class EventType(StrEnum):
    """What an event tells."""

    VERDICT = "verdict"
    FAILURE = "failure"
    START = "start"
    STOP = "stop"
    LOST = "lost"
    QUEUE = "queue"
    RULES = "rules"
    RELOAD = "reload"


def worth_recording(verdict: Verdict) -> bool:
    """Whether a verdict becomes an event: a matched rule says `log`, or a failure cause decided."""
    return verdict.reason in CAUSES or any(isinstance(effect, Logged) for effect in verdict.effects)


def verdict_event(verdict: Verdict, packet: Packet, summary: Mapping[str, object], *, policy: str, now: float) -> Event:
    """The event of one verdict. Never raises.

    `summary` has what was decoded of `saddr`, `daddr`, `sport`, `dport` and `protocol` (a number or a name); `now` is
    the wall clock in seconds since the epoch, for packets without a time that a calendar has.
    """
    logged = [effect for effect in verdict.effects if isinstance(effect, Logged)]
    return {
        "timestamp": _timestamp(packet.timestamp) or rfc3339(now),
        "type": EventType.FAILURE if verdict.reason in CAUSES else EventType.VERDICT,
        "hook": packet.hook,
        "iifname": packet.iifname,
        "oifname": packet.oifname,
        "saddr": _text(summary.get("saddr")),
        "daddr": _text(summary.get("daddr")),
        "sport": summary.get("sport"),
        "dport": summary.get("dport"),
        "protocol": _protocol(summary.get("protocol")),
        "length": packet.wire_length,
        "verdict": str(verdict.decision),
        "reason": verdict.reason,
        "detail": verdict.detail,
        "rule": verdict.rule,
        "at": _text(verdict.at),
        "logged": [effect.rule for effect in logged],
        "prefix": " ".join(effect.prefix for effect in logged if effect.prefix),
        "policy": policy,
    }


def failure_event(verdict: Verdict, *, policy: str, now: float) -> Event:
    """The event of a verdict for a packet of which nothing could be read."""
    nothing = ("hook", "iifname", "oifname", "saddr", "daddr", "sport", "dport", "protocol", "length")
    return {
        "timestamp": rfc3339(now),
        "type": EventType.FAILURE,
        **dict.fromkeys(nothing),
        "verdict": str(verdict.decision),
        "reason": verdict.reason,
        "detail": verdict.detail,
        "rule": None,
        "at": None,
        "logged": [],
        "prefix": "",
        "policy": policy,
    }


def event(kind: EventType, now: float, values: Event) -> Event:
    """Any other event: `values` behind its timestamp and type."""
    return {"timestamp": rfc3339(now), "type": kind, **values}


def encode(what: Event) -> bytes:
    """The event as one line of JSON, in ASCII. Never raises for values of plain types.

    Names that are not UTF-8 have their strange bytes written out (`\\udcff`): half a surrogate pair is no JSON text.
    """
    line = json.dumps(_plain(what), separators=(",", ":"))
    return line.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC. Raises ValueError or OverflowError outside the years 1 to 9999."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _timestamp(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else rfc3339(seconds)
    except (ValueError, OverflowError, OSError):
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _protocol(value: object) -> str | None:
    return protocols().name(value) if isinstance(value, int) else _text(value)


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _plain(str(value))

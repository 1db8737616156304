"""Events as lines for people: the columns of one stay where those of the last were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from qfilter.events.record import Event, EventType
from qfilter.text import escaped

Style = Callable[[str, str], str]
"""Gives a text its look, by a name: the verdict's kind, `failure`, `dim`, `header`, or an event's type.

The text has no control characters, but any others: where the look is written in a markup, the text must be escaped.
"""

_TIME, _VERDICT, _HOOK, _INTERFACES, _PROTOCOL, _REASON = 15, 6, 11, 14, 9, 9
ENDS = 40
"""Columns of source and destination."""


def plain(text: str, _: str) -> str:
    """No look at all."""
    return text


def render(event: Event, style: Style = plain) -> str:
    """One line without its end: time, verdict, hook, in->out, protocol, source -> destination, reason, rule, place."""
    kind = str(event["type"])
    clock = style(visible(event["timestamp"])[11 : 11 + _TIME].ljust(_TIME), "dim")
    if kind not in (EventType.VERDICT, EventType.FAILURE):
        return f"{clock}  {style(visible(kind.upper()).ljust(_VERDICT), kind)}  {_others(event)}".rstrip()
    decision, _, argument = visible(event["verdict"]).partition(" ")
    verdict = style(decision.upper().ljust(_VERDICT), decision)
    columns = (
        visible(event["hook"]).ljust(_HOOK),
        f"{visible(event['iifname'])}->{visible(event['oifname'])}".ljust(_INTERFACES),
        visible(event["protocol"]).ljust(_PROTOCOL),
        f"{_end(event['saddr'], event['sport'])} -> {_end(event['daddr'], event['dport'])}".ljust(ENDS),
        style(visible(event["reason"]).ljust(_REASON), "failure" if kind == EventType.FAILURE else "dim"),
        _why(event, argument),
    )
    return "  ".join((clock, verdict, *columns)).rstrip()


def visible(value: object) -> str:
    """A value as text that a terminal only shows; nothing is `-`."""
    return "-" if value is None or value == "" else escaped(str(value))


def _end(address: object, port: object) -> str:
    text = visible(address)
    if port is None:
        return text
    return f"[{text}]:{visible(port)}" if ":" in text else f"{text}:{visible(port)}"


def _why(event: Event, argument: str) -> str:
    words = [visible(event[key]) for key in ("rule", "detail") if event[key]]
    if event["at"]:
        words.append(f"at {visible(event['at'])}")
    if argument:
        words.append(f"({argument})")
    if event["prefix"]:
        words.append(f"[{visible(event['prefix'])}]")
    return " ".join(words)


def in_force(start: Event) -> str:
    """A `start` event in one sentence: the policy, where its packets come from, and what is decided without a rule."""
    backend = start.get("backend")
    rules = f"kernel rules by {visible(backend)}" if backend else "kernel rules of your own"
    queues, defaults = _compact(start.get("queues")), _compact(start.get("default"), " ")
    failures = start.get("on_failure")
    accepting = [visible(cause) for cause, kind in _pairs(failures) if kind == "accept"]
    outcome = f"accepts on {', '.join(accepting)}" if accepting else "every failure drops"
    return f"{visible(start.get('file'))}: queue {queues}, {rules}, default {defaults}, {outcome}"


def unwritten(count: int, error: str) -> str:
    """What became of events and captured packets that nobody has; empty when there are none."""
    return f"{count:,} events or captured packets were lost{f': {visible(error)}' if error else ''}" if count else ""


def losses(queue: Event) -> str:
    """What a `queue` event tells, such as `queue 0: socket_full 3`; empty when nothing was lost and nothing failed."""
    said = (f"{visible(key)} {_compact(value)}" for key, value in queue.items() if key not in _OF_QUEUE and value)
    rest = ", ".join(said)
    family = f" {visible(queue['family'])}" if queue.get("family") else ""
    return f"queue {visible(queue.get('queue'))}{family}: {rest}" if rest else ""


_OF_QUEUE = ("timestamp", "type", "policy", "queue", "family")


def _others(event: Event) -> str:
    match event["type"]:
        case EventType.LOST:
            return f"{visible(event['count'])} events could not be written"
        case EventType.START:
            return in_force(event)
        case EventType.STOP:
            return _totals(event)
        case EventType.RULES:
            differences = event.get("differences")
            return f"differ: {_compact(differences)}" if differences else "as they should be"
        case EventType.RELOAD:
            said = _compact(event.get("problems") or event.get("changes") or "nothing means otherwise")
            return f"{visible(event.get('outcome'))} {visible(event.get('file'))}: {said}"
    return losses(event)


def by_verdict(packets: Mapping[str, int]) -> str:
    """Numbers of packets by kind of verdict, such as `31 accept, 7 drop`; `none` when there were no packets."""
    return ", ".join(f"{count:,} {visible(kind)}" for kind, count in packets.items() if count) or "none"


def _totals(stop: Event) -> str:
    verdicts, queues = stop.get("verdicts"), stop.get("queues")
    parts = [f"{visible(stop.get('packets'))} packets, {visible(stop.get('bytes'))} bytes"]
    parts += [by_verdict(verdicts)] if isinstance(verdicts, Mapping) else []
    parts += [losses(queue) for queue in queues if isinstance(queue, Mapping)] if isinstance(queues, list) else []
    parts += [f"{visible(stop['events_lost'])} events lost"] if stop.get("events_lost") else []
    return "; ".join(part for part in parts if part)


def _pairs(value: object) -> Iterable[tuple[object, object]]:
    return value.items() if isinstance(value, Mapping) else ()


def _compact(value: object, between: str = ":") -> str:
    """Mappings and lists without the quotes and brackets of code; an empty one is nothing."""
    if isinstance(value, Mapping):
        parts = [f"{visible(key)}{between}{_compact(inner)}" for key, inner in value.items()]
        return ", ".join(parts) or visible(None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_compact, value)) or visible(None)
    return visible(value)

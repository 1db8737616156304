"""Events as lines for people: the columns of one stay where those of the last were."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qfilter.events.record import Event, EventType

Style = Callable[[str, str], str]
"""Gives a text its look, by a name: the verdict's kind, `failure`, `dim`, or an event's type.

The text has no control characters, but any others: where the look is written in a markup, the text must be escaped.
"""

_TIME, _VERDICT, _HOOK, _INTERFACES, _PROTOCOL, _ENDS, _REASON = 15, 6, 11, 14, 9, 40, 9


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
        f"{_end(event['saddr'], event['sport'])} -> {_end(event['daddr'], event['dport'])}".ljust(_ENDS),
        style(visible(event["reason"]).ljust(_REASON), "failure" if kind == EventType.FAILURE else "dim"),
        _why(event, argument),
    )
    return "  ".join((clock, verdict, *columns)).rstrip()


def visible(value: object) -> str:
    """A value as text that a terminal only shows; nothing is `-`.

    Whoever names an interface, or a file of a policy, must not be able to move the cursor or to turn the text around:
    all that is not printable is written as Python would escape it.
    """
    if value is None or value == "":
        return "-"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(value))


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


def _others(event: Event) -> str:
    if event["type"] == EventType.LOST:
        return f"{visible(event['count'])} events could not be written"
    return " ".join(f"{visible(key)}={_compact(event[key])}" for key in event if key not in ("timestamp", "type"))


def _compact(value: object) -> str:
    """Mappings and lists without the quotes and brackets of code; an empty one is nothing."""
    if isinstance(value, Mapping):
        return ",".join(f"{visible(key)}:{_compact(inner)}" for key, inner in value.items()) or visible(None)
    if isinstance(value, (list, tuple)):
        return ",".join(map(_compact, value)) or visible(None)
    return visible(value)

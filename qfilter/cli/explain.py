"""`qfilter explain`: why does a packet get its verdict, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from qfilter.cli import plan as planned
from qfilter.cli.output import console, style_on, write_json
from qfilter.cli.packets import hook_options, packet_of_capture, where
from qfilter.compiler import compile_policy
from qfilter.compiler.reads import looks_at, sets
from qfilter.engine.build import build
from qfilter.engine.described import from_hex
from qfilter.engine.explain import Explanation, Step, explain
from qfilter.engine.expression import from_scapy
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.tallies import all_rules
from qfilter.engine.value import Unknown
from qfilter.errors import PacketError
from qfilter.events.line import Style, visible
from qfilter.model.hook import Hook
from qfilter.model.packet import Packet
from qfilter.model.plan import Capabilities
from qfilter.model.policy import Policy
from qfilter.model.rule import Scope
from qfilter.policy.load import load, load_packet

_EPILOG = """\b
Examples:
  qfilter explain rules/demo.yaml --packet '{hook: forward, saddr: 192.0.2.2, protocol: tcp, dport: 23}'
  qfilter explain rules/demo.yaml --hook forward --scapy "IP(dst='198.51.100.2')/TCP(dport=23)"
  qfilter explain rules/demo.yaml --hook forward --capture attack.pcap --number 7
  qfilter explain rules/demo.yaml --plan"""


@click.command("explain", epilog=_EPILOG)
@click.argument("policy", type=click.Path(readable=False))
@click.option("--packet", "fields", help="The packet by its fields, as in `tests:` of a policy.")
@click.option("--scapy", "expression", help="The packet as a scapy expression.")
@click.option("--hex", "digits", help="The packet's bytes from the IP header on, in hexadecimal.")
@click.option("--capture", type=click.Path(readable=False), help="A capture that holds the packet.")
@click.option("--number", type=click.IntRange(min=1), default=1, show_default=True, help="Which packet of the capture.")
@click.option(
    "--plan", "wants_plan", is_flag=True, help="No packet: what POLICY becomes, and where its rules are decided."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.option("--all", "every", is_flag=True, help="Every rule that was looked at, not only the nearest misses.")
@hook_options
def command(
    policy: str,
    fields: str | None,
    expression: str | None,
    digits: str | None,
    capture: str | None,
    number: int,
    wants_plan: bool,
    form: str,
    every: bool,
    hook: Hook | None,
    iif: str | None,
    oif: str | None,
) -> None:
    """Tell what POLICY does with a packet: the verdict, the rules looked at, and the conditions that failed."""
    packets = sum(each is not None for each in (fields, expression, digits, capture))
    if packets + wants_plan != 1:
        raise click.UsageError("expected one of --packet, --scapy, --hex and --capture, or --plan")
    loaded = load(policy)
    if wants_plan:
        _tell_plan(loaded, form)
        return
    seen_at = where(loaded, hook)
    metadata = {"hook": seen_at.value, "iifname": iif, "oifname": oif}
    seen = {name: value for name, value in metadata.items() if value is not None}
    if fields is not None:
        packet = _described(fields, seen)
    elif expression is not None:
        packet = from_scapy(expression, seen)
    elif digits is not None:
        packet = from_hex(digits, seen)
    else:
        packet = packet_of_capture(capture or "", number, seen_at, iif, oif)
    where(loaded, packet.hook)
    explanation = explain(ReferenceEngine(loaded), packet)
    if form == "json":
        write_json(_as_dict(explanation))
    else:
        click.echo("\n".join(_lines(loaded, explanation, every, style_on(console()))))


def _described(text: str, seen: Mapping[str, object]) -> Packet:
    described = load_packet(text)
    try:
        return build({**seen, **described.fields})
    except PacketError as error:
        raise described.mistake(str(error)) from None


def _tell_plan(policy: Policy, form: str) -> None:
    plan = compile_policy(policy, Capabilities(), install=False)
    if form == "json":
        write_json(planned.decoded(plan))
    else:
        click.echo("\n".join(planned.lines(plan, style_on(console()))))


_NEAREST = 5
"""Rules that were missed and are shown without `--all`."""
_WIDTH = 100
"""Columns of the packet's fields."""
_CLOCK = ("hour", "weekday")
"""Fields that no packet brings: shown where a rule looks at them."""


def _lines(policy: Policy, explanation: Explanation, every: bool, style: Style) -> Iterator[str]:
    verdict, packet = explanation.verdict, explanation.packet
    yield f"verdict  {style(str(verdict.decision), verdict.decision.kind)}"
    yield f"reason   {verdict.reason}" + (f": {visible(verdict.detail)}" if verdict.detail else "")
    if verdict.at:
        yield f"by       {verdict.rule or f'default of {packet.hook}'} at {verdict.at}"
    yield from _packet(explanation)
    yield from _assumed(policy, explanation)
    matched = [step.rule for step in explanation.steps if step.truth is True]
    if matched:
        yield style("matched", "header")
        yield from (f"  {rule.id} at {rule.at}" for rule in matched)
    missed = explanation.near_misses
    shown = missed if every else missed[:_NEAREST]
    if shown:
        yield style("not matched, nearest first", "header")
        for step in shown:
            yield from _miss(step, style)
    if len(shown) < len(missed):
        yield style(f"  and {len(missed) - len(shown)} more, see --all", "dim")


def _packet(explanation: Explanation) -> Iterator[str]:
    looked_at = frozenset[str]().union(*(looks_at(step.rule) for step in explanation.steps))
    fields = ((name, value) for name, value in explanation.fields if name not in _CLOCK or name in looked_at)
    label, line = "packet ", ""
    for field in (f"{name}={visible(value)}" for name, value in fields):
        if line and len(line) + len(field) > _WIDTH:
            yield f"{label} {line}"
            label, line = " " * len(label), ""
        line += f" {field}"
    if line:
        yield f"{label} {line}"


def _assumed(policy: Policy, explanation: Explanation) -> Iterator[str]:
    """What is otherwise where the policy is in force: packets came before, and some never come."""
    rules = [step.rule for step in explanation.steps]
    dynamic = {name for name, one in policy.sets.items() if one.dynamic}
    before = (
        ("nothing added to dynamic sets", any(dynamic & sets(rule) for rule in rules)),
        ("full limits", any(rule.limit for rule in rules)),
        ("no flows", bool(rules) and any(rule.scope is Scope.FLOW for rule in all_rules(policy.rules))),
    )
    if any(there for _, there in before):
        yield f"judged   as the first packet: {', '.join(words for words, there in before if there)}"
    if policy.queue.exempt:
        which = " and ".join(planned.EXEMPT[one] for one in policy.queue.exempt)
        yield f"exempt   packets of {which} never come here (queue.exempt)"


def _miss(step: Step, style: Style) -> Iterator[str]:
    unknown = f" unknown: {step.truth.reason}" if isinstance(step.truth, Unknown) else ""
    yield f"  {step.rule.id} at {step.rule.at}{unknown}"
    if not step.failed and not unknown:
        over = step.rule.limit is not None and step.rule.limit.over
        yield style(f"    {'within' if over else 'over'} its limit", "dim")
    for part in step.failed:
        found = f": {part.found}" if part.found else ""
        where = f" (line {part.at.line})" if part.at else ""
        yield style(visible(f"    {part.condition}{where}{found}"), "dim")


def _as_dict(explanation: Explanation) -> dict[str, object]:
    verdict = explanation.verdict
    return {
        "verdict": str(verdict.decision),
        "reason": verdict.reason.value,
        "detail": verdict.detail,
        "rule": verdict.rule,
        "at": None if verdict.at is None else str(verdict.at),
        "packet": {"hook": explanation.packet.hook.value, **dict(explanation.fields)},
        "rules": [
            {
                "rule": step.rule.id,
                "at": str(step.rule.at),
                "matched": None if isinstance(step.truth, Unknown) else step.truth,
                "failed": [
                    {
                        "condition": part.condition,
                        "at": None if part.at is None else str(part.at),
                        "found": part.found,
                        "unknown": part.truth.reason.value if isinstance(part.truth, Unknown) else None,
                    }
                    for part in step.failed
                ],
            }
            for step in explanation.steps
        ],
    }

"""`qfilter explain --plan`: what a policy becomes, on any machine."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from qfilter.compiler import encode
from qfilter.compiler.places import reasons
from qfilter.engine.native import NativeEngine, Structure
from qfilter.events.line import Style, visible
from qfilter.model.plan import Place, Plan
from qfilter.model.policy import Exempt, Policy
from qfilter.model.rule import Rule
from qfilter.model.verdict import Reason

EXEMPT = {Exempt.LO: "lo", Exempt.ESTABLISHED: "established connections"}
"""What never comes to the queue, in words."""


def lines(plan: Plan, style: Style) -> Iterator[str]:
    """A plan for people: what the kernel does, and where each rule is decided."""
    policy, places = plan.policy, tuple(plan.places.values())
    yield f"copies   {plan.copy_range:,} bytes of each packet at most"
    yield f"queue    {_queue(policy)}"
    yield f"kernel   {_kernel(plan)}"
    yield style("rules", "header")
    yield from _rules(plan, policy.rules, style)
    python = places.count(Place.PYTHON)
    yield f"total    {len(places):,} rules: {len(places) - python:,} native, {python:,} with Python"
    document = encode(plan)
    yield f"document {len(document):,} bytes"
    yield from _matcher(NativeEngine(policy, document).structure())


def decoded(plan: Plan) -> object:
    """The plan document as JSON takes it: bytes are hex digits."""
    return _without_bytes(msgpack.unpackb(encode(plan)))


def _queue(policy: Policy) -> str:
    queue, outcome = policy.queue, policy.on_failure
    numbers = f"{queue.first}" if queue.first == queue.last else f"{queue.first}-{queue.last}"
    full, absent = outcome[Reason.QUEUE_FULL], outcome[Reason.NO_LISTENER]
    return f"{numbers}, {queue.length:,} packets long; full: {full}; without a listener: {absent}"


def _kernel(plan: Plan) -> str:
    policy = plan.policy
    exempt = " and ".join(EXEMPT[one] for one in policy.queue.exempt)
    but = f", but not of {exempt}" if exempt else ""
    rejects = f"; rejects come back by mark {plan.mark_mask:#x}" if plan.mark_mask else ""
    return f"{policy.queue.target} for packets at {', '.join(policy.defaults)}{but}{rejects}"


def _rules(plan: Plan, siblings: tuple[Rule, ...], style: Style, depth: int = 1) -> Iterator[str]:
    for rule in siblings:
        why = ", ".join(reasons(rule))
        place = f"{plan.places[rule.id]}: {visible(why)}" if why else f"{plan.places[rule.id]}"
        yield f"{'  ' * depth}{visible(rule.id)} at {visible(rule.at)} {style(place, 'dim')}"
        yield from _rules(plan, rule.rules, style, depth + 1)


def _matcher(structure: Structure) -> Iterator[str]:
    """How the native engine finds the rules that a packet can match."""
    sources = ", ".join(each.source for each in structure.dimensions)
    found = f"rules are found by {sources}" if sources else "every rule is asked"
    yield f"matcher  {structure.bytes:,} bytes; {found}"
    for each in structure.dimensions:
        yield f"  {each.source}: {each.classes:,} classes of values, {each.vectors:,} vectors of rules"
    if structure.residual:
        yield f"  asked of what they leave: {', '.join(structure.residual)}"
    if structure.searched:
        yield f"  payload: one search for all literals rules out those of {structure.searched:,} that need others"


def _without_bytes(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case list():
            return [_without_bytes(each) for each in value]
        case dict():
            return {name: _without_bytes(each) for name, each in value.items()}
    return value

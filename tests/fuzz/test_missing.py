"""The law that matters most: bytes that are missing never open a door. No failure is let through here."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from qfilter.model.packet import Packet
from qfilter.model.policy import Policy
from qfilter.model.verdict import Reason
from tests.fuzz.generated import engine, examples, packets, policies, policy_of, sound_bytes
from tests.unit.engine import wire

DECIDED = (Reason.RULE, Reason.DEFAULT)
"""Any other reason is a failure, and those drop here."""


@examples(50)
@given(policies(actions=False), st.lists(packets(sound_bytes()), min_size=1, max_size=3))
def test_a_packet_that_was_cut_gets_the_verdict_of_the_whole_one_or_none(policy: Policy, sent: list[Packet]) -> None:
    judged = engine(policy)
    for whole in sent:
        wanted = judged.decide(whole)
        # What nobody has seen is not known to lie: see test_a_lie_behind_the_cut.
        if wanted.reason is Reason.MALFORMED:
            continue
        for size in range(1, len(whole.data)):
            got = judged.decide(replace(whole, data=whole.data[:size]))
            if got.reason in DECIDED:
                assert got == wanted, size


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[Packet, list[Packet]]:
    """A packet, and its two fragments."""
    six = draw(st.booleans())
    payload = draw(st.sampled_from([b"GET / abc", bytes(40), b"G" * 70]))
    protocol, header = draw(
        st.sampled_from(
            [
                (wire.TCP, wire.tcp(flags=18, options=b"\2\4\5\xb4")),
                (wire.UDP, wire.udp(length=8 + len(payload))),
                (wire.ICMPV6 if six else wire.ICMP, wire.icmp()),
                (253, b""),
            ]
        )
    )
    body = header + payload
    at = draw(st.integers(1, (len(body) - 1) // 8)) * 8
    first, later = body[:at], body[at:]
    if six:
        whole = wire.ipv6(body, protocol)
        parts = [
            wire.ipv6(wire.frag(protocol, more=True) + first, wire.FRAGMENT),
            wire.ipv6(wire.frag(protocol, at) + later, wire.FRAGMENT),
        ]
    else:
        whole = wire.ipv4(body, protocol)
        parts = [wire.ipv4(first, protocol, more=True), wire.ipv4(later, protocol, offset=at)]
    like = draw(packets(st.just(whole)))
    return like, [replace(like, data=part, wire_length=len(part)) for part in parts]


OF_THE_PACKET_ITSELF = ("length", "fragment", "ip6.exthdrs")
"""Fields that differ between a datagram and its fragments because they are of the packet that carries it."""


@examples(60)
@given(policies(actions=False), fragmented())
def test_a_fragment_gets_the_verdict_of_the_datagram_or_none(policy: Policy, sent: tuple[Packet, list[Packet]]) -> None:
    said = repr(policy.rules)
    assume(not any(f"FieldTest(field={name!r}" in said for name in OF_THE_PACKET_ITSELF))
    assume("Base.NETWORK" not in said)
    whole, parts = sent
    wanted = engine(policy).decide(whole)
    for part in parts:
        got = engine(policy).decide(part)
        if got.reason in DECIDED:
            assert got == wanted


def test_a_lie_behind_the_cut() -> None:
    """What was not copied cannot be known to lie, so rules on layer 3 decide; `queue.copy_range` says how far."""
    policy = policy_of([{"id": "friend", "match": {"saddr": "2001:db8::/32"}, "verdict": "accept"}])
    long = wire.ext(wire.ROUTING, b"\1\xf4" + bytes(0xF4) + b"\1\2\0\0" + bytes(4))
    routed = wire.ext(wire.TCP, bytes(6))
    data = wire.ipv6(long + routed + wire.tcp(), wire.DESTINATION)
    whole = Packet.from_bytes(data, hook="input")
    assert engine(policy).decide(whole).detail == "ipv6-routing-type-0"
    assert engine(policy).decide(replace(whole, data=data[:128])).rule == "friend"

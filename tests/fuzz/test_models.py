"""What is fast and bounded in the engine against what is plainly right: ranges, addresses, limits and live sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from qfilter.engine.limits import Buckets
from qfilter.engine.sets import LiveSet, in_addresses, in_ranges
from qfilter.errors import Position
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetDefinition, SetType
from qfilter.model.rule import Limit
from qfilter.policy.values import merge_ranges
from tests.fuzz.generated import examples

SECOND = 1_000_000_000
pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])))
networks = st.sampled_from(
    ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "::1/128"]
)
hosts = st.sampled_from(
    ["10.1.2.3", "10.1.2.4", "9.255.255.255", "11.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::"]
)


@examples(300)
@given(pairs, st.integers(0, 50))
def test_ranges(ranges: list[tuple[int, int]], number: int) -> None:
    assert in_ranges(merge_ranges(ranges), number) == any(low <= number <= high for low, high in ranges)


@examples(200)
@given(st.lists(networks), hosts)
def test_addresses(texts: list[str], text: str) -> None:
    found = [ip_network(one) for one in texts]
    v4, v6 = (
        merge_ranges((int(one[0]), int(one[-1])) for one in found if one.version == version) for version in (4, 6)
    )
    address = ip_address(text)
    assert in_addresses(Addresses(v4, v6), address) == any(address in one for one in found)


@dataclass
class PlainBucket:
    """Tokens as fractions, no bound on how many buckets there are."""

    limit: Limit
    tokens: Fraction = field(init=False)
    since: int = 0

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.limit.burst)

    def refill(self, now: int) -> Fraction:
        back = Fraction((now - self.since) * self.limit.rate, self.limit.seconds * SECOND)
        self.tokens = min(Fraction(self.limit.burst), self.tokens + back)
        self.since = now
        return self.tokens

    def take(self, now: int) -> bool:
        if self.refill(now) < 1:
            return False
        self.tokens -= 1
        return True


limits = st.builds(Limit, st.integers(1, 7), st.sampled_from([1, 60, 86_400]), st.integers(1, 4))
steps = st.sampled_from([0, 1, SECOND // 3, SECOND // 3 + 1, SECOND, 20 * SECOND, 86_400 * SECOND]) | st.integers(
    0, SECOND
)


@examples(200)
@given(limits, st.lists(st.tuples(steps, st.integers(0, 3)), max_size=40))
def test_limits(limit: Limit, events: list[tuple[int, int]]) -> None:
    buckets, plain, now = Buckets(limit), {key: PlainBucket(limit) for key in range(4)}, 0
    for step, key in events:
        now += step
        assert buckets.take((key,), now) == plain[key].take(now)


@examples(200)
@given(limits, st.lists(st.tuples(steps, st.integers(0, 5)), max_size=40))
def test_a_bounded_limit_refuses_only_while_every_place_is_taken(limit: Limit, events: list[tuple[int, int]]) -> None:
    buckets, plain, now = Buckets(limit, size=2), {key: PlainBucket(limit) for key in range(6)}, 0
    for step, key in events:
        now += step
        in_use = {other for other, bucket in plain.items() if bucket.refill(now) < limit.burst}
        if key in in_use or len(in_use) < 2:
            assert buckets.take((key,), now) == plain[key].take(now)
        else:
            assert not buckets.take((key,), now)


ELEMENTS = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "203.0.113.7")
operations = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(ELEMENTS), st.sampled_from([None, 0.5, 1, 3, 1000])),
    st.tuples(st.just("delete"), st.sampled_from(ELEMENTS), st.none()),
)


@examples(300)
@given(st.sampled_from([None, 2.0]), st.integers(1, 4), st.lists(st.tuples(steps, operations), max_size=40))
def test_live_sets(timeout: float | None, size: int, events: list[tuple[int, tuple[str, str, float | None]]]) -> None:
    elements = Addresses(v4=((int(ip_address("203.0.113.0")), int(ip_address("203.0.113.255"))),))
    definition = SetDefinition(
        name="s",
        type=SetType.ADDRESS,
        at=Position("p", 1, 1),
        elements=elements,
        dynamic=True,
        timeout=timeout,
        size=size,
    )
    live, plain, now = LiveSet(definition), dict[str, float](), 0
    added = refused = 0
    for step, (operation, element, seconds) in events:
        now += step
        plain = {held: due for held, due in plain.items() if now < due}
        if operation == "delete":
            live.delete(ip_address(element), now)
            plain.pop(element, None)
        else:
            live.add(ip_address(element), seconds, now)
            stays = timeout if seconds is None else seconds
            if element.startswith("203."):
                pass
            elif element in plain or len(plain) < size:
                plain[element] = float("inf") if stays is None else now + stays * SECOND
                added += 1
            else:
                refused += 1
        here = {held for held in ELEMENTS if live.contains(ip_address(held), now)}
        assert here == {*plain, "203.0.113.7"}
        tally = live.tally(now)
        assert (tally.elements, tally.added, tally.refused) == (len(plain), added, refused)


def test_numbers_of_a_set() -> None:
    definition = SetDefinition(
        name="n", type=SetType.NUMBER, at=Position("p", 1, 1), elements=Ranges(((0, 3), (7, 7))), dynamic=True
    )
    live = LiveSet(definition)
    live.add(5, None, 0)
    assert [number for number in range(10) if live.contains(number, 0)] == [0, 1, 2, 3, 5, 7]

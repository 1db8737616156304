"""Lists of addresses in the compiled core, beside what `values.parse_address` makes of every line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfilter.fields import Family
from qfilter.model.match import Addresses
from qfilter.model.policy import SetType
from qfilter.policy.native import AddressList
from qfilter.policy.text import LINE_BREAK
from qfilter.policy.values import BadValueError, Elements, merge_ranges, parse_address


def plainly(text: str) -> tuple[Addresses, list[int]]:
    """What a text means, line by line, and the numbers of its bad lines."""
    found: dict[Family, list[tuple[int, int]]] = {Family.IPV4: [], Family.IPV6: []}
    bad = []
    for number, line in enumerate(LINE_BREAK.split(text), start=1):
        element = re.sub(r"(^|\s)#.*", "", line).strip()
        try:
            if element:
                family, low, high = parse_address(element)
                found[family].append((low, high))
        except BadValueError:
            bad.append(number)
    return Addresses(merge_ranges(found[Family.IPV4]), merge_ranges(found[Family.IPV6])), bad


def read(text: str) -> tuple[Addresses, list[tuple[int, str]]]:
    addresses = AddressList()
    left = addresses.read(text.encode())
    return addresses.build(), list(left)


def v4(*pairs: str) -> Addresses:
    return Addresses(v4=[(int(IPv4Address(low)), int(IPv4Address(high))) for low, _, high in map(split, pairs)])


def v6(*pairs: str) -> Addresses:
    return Addresses(v6=[(int(IPv6Address(low)), int(IPv6Address(high))) for low, _, high in map(split, pairs)])


def split(pair: str) -> tuple[str, str, str]:
    low, dash, high = pair.partition("-")
    return low, dash, high or low


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Addresses()),
        ("\n\r\n\r  \n\t\n", Addresses()),
        ("192.0.2.1", v4("192.0.2.1")),
        ("# all\n192.0.2.1 # one\n#192.0.2.9\n \t192.0.2.3\t#two#three\n", v4("192.0.2.1", "192.0.2.3")),
        ("192.0.2.3\r192.0.2.1\r\n192.0.2.2", v4("192.0.2.1-192.0.2.3")),
        ("192.0.2.0/25\n192.0.2.128/25", v4("192.0.2.0-192.0.2.255")),
        ("10.0.0.0-10.0.0.9\n10.0.0.5 - 10.0.0.7\n10.0.0.9 -10.0.0.10", v4("10.0.0.0-10.0.0.10")),
        ("0.0.0.0/0\n255.255.255.255/32\n1.2.3.4", v4("0.0.0.0-255.255.255.255")),
        ("255.255.255.255\n0.0.0.0", v4("0.0.0.0", "255.255.255.255")),
        ("::/0", v6("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ("2001:DB8::1/128\n2001:db8:0:0::2", v6("2001:db8::1-2001:db8::2")),
        ("2001:db8::/033", v6("2001:db8::-2001:db8:7fff:ffff:ffff:ffff:ffff:ffff")),
        ("::fffe:ffff:ffff-::1:0:0:0", v6("::fffe:ffff:ffff-::1:0:0:0")),
        ("64:ff9b::192.0.2.1", v6("64:ff9b::c000:201")),
    ],
)
def test_what_it_reads(text: str, expected: Addresses) -> None:
    assert read(text) == (expected, [])
    assert plainly(text) == (expected, [])


@pytest.mark.parametrize(
    "line",
    [
        "192.0.2.1/24",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/+8",
        "0.0.0.0/-0",
        "192.0.2.0/24/24",
        "192.0.2.0 /24",
        "192.0.2.0/255.255.255.0",
        "192.0.2.2-192.0.2.1",
        "192.0.2.2-192.0.2.1-192.0.2.9",
        "192.0.2.0/31-192.0.2.2",
        "192.0.2.1-2001:db8::1",
        "2001:db8::1-192.0.2.1",
        "192.0.2.01",
        "192.0.2",
        "192.0.2.1#no comment",
        "192.0.2.1 192.0.2.2",
        "192.0.2.1,",
        "[2001:db8::1]",
        "fe80::1%eth0",
        "::ffff:192.0.2.1",
        "::ffff:0:0-::ffff:0:9",
        "::ffff:0:0/97",
        "::ffff:0:0/96",
        "2001:db8::1::",
        "\u0661.\u0662.\u0663.\u0664",
        "192.0.2.1 example",
        "192.0.2.1\u3000# a space of another kind",
        "# \u00e9\n",
        "-",
        "/",
        "example.org",
    ],
)
def test_other_lines_come_back_as_they_are(line: str) -> None:
    comment = line.startswith("#")
    assert read(f"10.0.0.1\n{line}\n10.0.0.2") == (v4("10.0.0.1-10.0.0.2"), [] if comment else [(2, line)])


def test_what_comes_back_may_be_added() -> None:
    elements = Elements(SetType.ADDRESS)
    left = elements.add_lines("::ffff:0:0/96\n2001:db8::/64\n192.0.2.7\u3000# seven\n192.0.2.8".encode())
    assert left == [(1, "::ffff:0:0/96"), (3, "192.0.2.7\u3000# seven")]
    elements.add("::ffff:0:0/96")
    elements.add("192.0.2.7")
    assert elements.build() == Addresses(
        v4("192.0.2.7-192.0.2.8").v4,
        v6("::ffff:0:0-::ffff:ffff:ffff", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff").v6,
    )


def test_a_list_of_several_texts_is_one() -> None:
    addresses = AddressList()
    for text in (b"192.0.2.9\n2001:db8::1", b"192.0.2.1-192.0.2.8"):
        assert addresses.read(text) == []
    addresses.add(32, 5, 5)
    addresses.add(128, 5, 1 << 127)
    both = addresses.build()
    assert (list(both.v4), list(both.v6)) == ([(5, 5), (0xC0000201, 0xC0000209)], [(5, 1 << 127)])
    assert addresses.build() == Addresses()


@pytest.mark.parametrize(("bits", "high"), [(32, 1 << 32), (64, 1), (0, 0)])
def test_numbers_that_are_no_addresses(bits: int, high: int) -> None:
    with pytest.raises(ValueError, match=f"{bits} bits: expected 32 or 128 that hold the range"):
        AddressList().add(bits, 0, high)


_V4 = st.integers(0, 40).map(lambda low: str(IPv4Address(0xC0000200 + low))) | st.ip_addresses(v=4).map(str)
_V6 = st.integers(0, 40).map(lambda low: str(IPv6Address((0x20010DB8 << 96) + low))) | st.ip_addresses(v=6).map(str)
_MAPPED = st.ip_addresses(v=4).map(lambda each: f"::ffff:{each}")
_ADDRESS = _V4 | _V6 | _V6.map(lambda text: IPv6Address(text).exploded) | _MAPPED
_NETWORK = st.builds(
    lambda text, host: f"{IPv4Address(int(IPv4Address(text)) >> host << host)}/{32 - host}", _V4, st.integers(0, 32)
) | st.builds(
    lambda text, host: f"{IPv6Address(int(IPv6Address(text)) >> host << host)}/{128 - host}", _V6, st.integers(0, 128)
)
_RANGE = st.tuples(_V4, _V4).map(lambda ends: "-".join(sorted(ends, key=lambda end: int(IPv4Address(end)))))
_ODD = (
    st.builds("{}/{}".format, _ADDRESS, st.integers(-1, 200))
    | st.builds("{}{}{}".format, _ADDRESS, st.sampled_from(["-", " - ", "- ", "--"]), _ADDRESS)
    | st.text("0123456789abcdef:./-% #\u00a0", max_size=20)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)
)
_LINE = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", " ", "\t", "\u00a0"]),
    _ADDRESS | _NETWORK | _RANGE | _ODD,
    st.sampled_from(["", " ", "\t "]),
    st.sampled_from(["", "# why", "#", " #192.0.2.1 # more"]),
)
_ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


def lines(text: str, left: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    every = LINE_BREAK.split(text)
    return ((number, every[number - 1]) for number, _ in left)


@settings(max_examples=300)
@given(st.lists(st.tuples(_LINE, _ENDS), max_size=30))
def test_it_means_what_every_line_means(written: list[tuple[str, str]]) -> None:
    text = "".join(line + end for line, end in written)
    expected, bad = plainly(text)
    addresses = AddressList()
    left = list(addresses.read(text.encode()))
    assert left == list(lines(text, left))
    still_bad = []
    for number, line in left:
        rest, wrong = plainly(line)
        still_bad += [number] * len(wrong)
        for bits, pairs in ((32, rest.v4), (128, rest.v6)):
            for low, high in pairs:
                addresses.add(bits, low, high)
    assert (addresses.build(), still_bad) == (expected, bad)

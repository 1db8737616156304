"""Texts to addresses, numbers, elements, durations and sizes."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.fields import FIELDS, Family
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import SetType, Strings
from qfilter.policy.values import (
    NUMBER,
    PORT,
    BadValueError,
    Elements,
    Numbers,
    merge_ranges,
    parse_address,
    parse_duration,
    parse_elements,
    parse_range,
    parse_size,
)
from tests.unit.policy.reading import a_scope, node_of, said


def v4(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


def v6(text: str) -> int:
    return int(ipaddress.IPv6Address(text))


@pytest.mark.parametrize(
    ("text", "family", "low", "high"),
    [
        ("192.0.2.1", Family.IPV4, v4("192.0.2.1"), v4("192.0.2.1")),
        ("192.0.2.0/24", Family.IPV4, v4("192.0.2.0"), v4("192.0.2.255")),
        ("0.0.0.0/0", Family.IPV4, 0, (1 << 32) - 1),
        ("192.0.2.1-192.0.2.9", Family.IPV4, v4("192.0.2.1"), v4("192.0.2.9")),
        ("192.0.2.1 - 192.0.2.1", Family.IPV4, v4("192.0.2.1"), v4("192.0.2.1")),
        ("2001:DB8::1", Family.IPV6, v6("2001:db8::1"), v6("2001:db8::1")),
        ("2001:db8::/32", Family.IPV6, v6("2001:db8::"), v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")),
        ("::1-::ff", Family.IPV6, 1, 255),
        ("::/0", Family.IPV6, 0, (1 << 128) - 1),
        ("::ffff:0:0/96", Family.IPV6, v6("::ffff:0:0"), v6("::ffff:ffff:ffff")),
    ],
)
def test_addresses(text: str, family: Family, low: int, high: int) -> None:
    assert parse_address(text) == (family, low, high)


@pytest.mark.parametrize(
    ("text", "kind", "message", "suggestion"),
    [
        ("192.0.2.256", "bad-value", "expected an IPv4 or IPv6 address", None),
        ("192.0.2.010", "bad-value", "without leading zeros", "192.0.2.10"),
        ("192.0.2", "bad-value", "expected an IPv4 or IPv6 address", None),
        ("example.org", "bad-value", "expected an IPv4 or IPv6 address", None),
        ("", "bad-value", "expected an IPv4 or IPv6 address", None),
        ("fe80::1%eth0", "bad-value", "without a zone; the interface is `iifname`", "fe80::1"),
        ("fe80::%1/64", "bad-value", "without a zone", "fe80::"),
        ("192.0.2.1/24", "host-bits", "expected '192.0.2.0/24' or the address alone", "192.0.2.0/24"),
        ("2001:db8::1/64", "host-bits", "expected '2001:db8::/64'", "2001:db8::/64"),
        ("192.0.2.0/33", "out-of-range", "prefix length 33: expected 0 to 32", None),
        ("2001:db8::/129", "out-of-range", "expected 0 to 128", None),
        ("192.0.2.0/", "bad-value", "expected a length of 0 to 32", None),
        ("192.0.2.0/255.255.255.0", "bad-value", "expected a length of 0 to 32", "192.0.2.0/24"),
        ("192.0.2.9-192.0.2.1", "reversed-range", "expected its end above its start", "192.0.2.1-192.0.2.9"),
        ("192.0.2.1-2001:db8::1", "bad-value", "expected two addresses of one family", None),
        ("::ffff:192.0.2.1", "bad-value", "IPv4-mapped, which IPv4 packets do not have", "192.0.2.1"),
        ("::ffff:c000:200/120", "bad-value", "IPv4-mapped", None),
        ("\u0661.0.2.1", "bad-value", "expected an IPv4 or IPv6 address", None),
    ],
)
def test_texts_that_are_no_addresses(text: str, kind: str, message: str, suggestion: str | None) -> None:
    with pytest.raises(BadValueError, match=re.escape(message)) as raised:
        parse_address(text)
    assert (raised.value.kind, raised.value.suggestion) == (kind, suggestion)


@given(st.ip_addresses())
def test_addresses_agree_with_ipaddress(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    try:
        found = parse_address(str(address))
    except BadValueError:
        assert isinstance(address, ipaddress.IPv6Address)
        assert address.ipv4_mapped is not None or address.scope_id is not None
    else:
        assert (found.family, found.low) == (Family.IPV4 if address.version == 4 else Family.IPV6, int(address))
        assert found.low == found.high


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_prefixes_agree_with_ipaddress(address: ipaddress.IPv4Address, length: int) -> None:
    network = ipaddress.IPv4Network((address, length), strict=False)
    assert parse_address(str(network))[1:] == (int(network[0]), int(network[-1]))
    if network.network_address != address:
        with pytest.raises(BadValueError, match="bits are set") as raised:
            parse_address(f"{address}/{length}")
        assert raised.value.suggestion == str(network)


@given(st.text())
def test_any_text_is_an_address_or_a_bad_value(text: str) -> None:
    for parse in (parse_address, lambda text: parse_range(text, PORT)):
        with contextlib.suppress(BadValueError):
            assert parse(text)


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [
        ("22", PORT, (22, 22)),
        ("ssh", PORT, (22, 22)),
        ("SSH", PORT, (22, 22)),
        ("0x16", PORT, (22, 22)),
        ("0o26", PORT, (22, 22)),
        ("1024-65535", PORT, (1024, 65535)),
        ("0x10 - 0x20", PORT, (16, 32)),
        ("18446744073709551615", NUMBER, ((1 << 64) - 1,) * 2),
        ("echo-request", Numbers.of(FIELDS["icmp.type"]), (8, 8)),
        ("ipv6-icmp", Numbers.of(FIELDS["protocol"]), (58, 58)),
        ("icmpv6", Numbers.of(FIELDS["protocol"]), (58, 58)),
        ("-5--1", Numbers("signed", -10, 10), (-5, -1)),
    ],
)
def test_numbers(text: str, numbers: Numbers, expected: tuple[int, int]) -> None:
    assert parse_range(text, numbers) == expected


@pytest.mark.parametrize(
    ("text", "numbers", "kind", "message", "suggestion"),
    [
        ("70000", PORT, "out-of-range", "port 70000: expected 0 to 65535", None),
        ("-1", PORT, "out-of-range", "port -1: expected 0 to 65535", None),
        ("1-70000", PORT, "out-of-range", "port 70000: expected 0 to 65535", None),
        ("20-10", PORT, "reversed-range", "range '20-10': expected its end above its start", "10-20"),
        ("htps", PORT, "unknown-name", "port 'htps': expected 0 to 65535 or a name", "https"),
        ("23:445", PORT, "bad-value", "port '23:445': a range is written 23-445", "23-445"),
        ("22.5", PORT, "unknown-name", "port '22.5': expected 0 to 65535 or a name", None),
        ("022", PORT, "bad-value", "port '022': starts with 0, which some read as octal: expected '22'", "22"),
        ("many", NUMBER, "bad-value", "number 'many': expected 0 to 18446744073709551615", None),
        ("9" * 99, PORT, "unknown-name", "expected 0 to 65535 or a name", None),
        ("dicom", PORT, "ambiguous-name", "port 'dicom': means 104 and 11112", None),
        (
            "ipip",
            Numbers.of(FIELDS["protocol"]),
            "ambiguous-name",
            "protocol 'ipip': means 94 and 4: expected '94' or 'ipencap'",
            None,
        ),
    ],
)
def test_texts_that_are_no_numbers(
    text: str, numbers: Numbers, kind: str, message: str, suggestion: str | None
) -> None:
    with pytest.raises(BadValueError, match=re.escape(message)) as raised:
        parse_range(text, numbers)
    assert (raised.value.kind, raised.value.suggestion) == (kind, suggestion)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))))
def test_merged_ranges_hold_the_same_numbers_and_do_not_touch(ranges: list[tuple[int, int]]) -> None:
    merged = merge_ranges(ranges)
    numbers = {number for low, high in ranges for number in range(low, high + 1)}
    assert {number for low, high in merged for number in range(low, high + 1)} == numbers
    assert all(one[1] + 1 < other[0] for one, other in pairwise(merged))


def test_elements_of_a_list_with_references() -> None:
    scope = a_scope()
    found = parse_elements(SetType.ADDRESS, node_of("[$more, 192.0.2.128/25, 203.0.113.1]"), scope)
    assert found == Addresses(
        v4=(
            (v4("192.0.2.0"), v4("192.0.2.255")),
            (v4("198.51.100.1"), v4("198.51.100.1")),
            (v4("203.0.113.1"), v4("203.0.113.1")),
        ),
        v6=((v6("2001:db8:1::"), v6("2001:db8:1:0:ffff:ffff:ffff:ffff")),),
    )
    assert said(scope) == []


@pytest.mark.parametrize(
    ("type", "text", "expected"),
    [
        (SetType.PORT, "[22, 23, ssh, 80-81, http]", Ranges(((22, 23), (80, 81)))),
        (SetType.NUMBER, "[0, 4294967296]", Ranges(((0, 0), (1 << 32, 1 << 32)))),
        (SetType.STRING, "[eth0, 'ä', '7']", Strings(frozenset({b"eth0", "ä".encode(), b"7"}))),
    ],
)
def test_elements(type: SetType, text: str, expected: Ranges | Strings) -> None:
    scope = a_scope()
    assert parse_elements(type, node_of(text), scope) == expected
    assert said(scope) == []


@pytest.mark.parametrize(
    ("type", "text", "message"),
    [
        (SetType.ADDRESS, "[192.0.2.1, 192.0.2.1/8]", "1:13 host-bits: prefix '192.0.2.1/8'"),
        (SetType.ADDRESS, "[$hosts]", "1:2 wrong-type: set 'hosts'"),
        (SetType.ADDRESS, "[[a: b]]", "1:3 wrong-type: a mapping: expected an element of a set of type address"),
        (SetType.PORT, "[true]", "1:2 wrong-type: the boolean 'true': expected an element"),
        (SetType.STRING, "[7]", "1:2 wrong-type: the number '7': expected an element of a set of type string"),
        (SetType.STRING, "[~]", "1:2 wrong-type: nothing: expected an element of a set of type string"),
    ],
)
def test_elements_that_are_none(type: SetType, text: str, message: str) -> None:
    scope = a_scope()
    parse_elements(type, node_of(text), scope)
    assert len(said(scope)) == 1
    assert said(scope)[0].startswith(message)


def test_lines_of_a_set_file_go_through_the_same_parser() -> None:
    elements = Elements(SetType.ADDRESS)
    elements.add("192.0.2.0/25")
    elements.add("192.0.2.128/25")
    assert elements.build() == Addresses(v4=((v4("192.0.2.0"), v4("192.0.2.255")),))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("90s", 90), ("1d", 86400), ("90", 90), ("0.5", 0.5), ("1d1h1m1s", 90061)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(node_of(text), a_scope()) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10", None),
        ("0", "1:1 out-of-range: duration '0': expected above 0 to 366d"),
        (".nan", "1:1 out-of-range: duration '.nan': expected above 0 to 366d"),
        (".inf", "1:1 out-of-range: duration '.inf': expected above 0 to 366d"),
        ("400d", "1:1 out-of-range: duration '400d': expected above 0 to 366d"),
        ("30m1h", "1:1 bad-value: duration '30m1h': expected such as 90s, 10m or 1h30m"),
        ("10 minutes", "1:1 bad-value: duration '10 minutes': expected such as 90s, 10m or 1h30m"),
        ("''", "1:1 bad-value: duration '': expected such as 90s, 10m or 1h30m"),
        ("true", "1:1 wrong-type: the boolean 'true': expected a duration such as 10m"),
        ("[10m]", "1:1 wrong-type: a list: expected a duration such as 10m"),
    ],
)
def test_texts_that_are_no_durations(text: str, message: str | None) -> None:
    scope = a_scope()
    parse_duration(node_of(text), scope)
    assert said(scope) == ([message] if message else [])


@pytest.mark.parametrize(
    ("text", "size"), [("10 MiB", 10 << 20), ("64k", 65536), ("64KiB", 65536), ("1500", 1500), ("2G", 2 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(node_of(text), a_scope()) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10 MB", "1:1 bad-value: size '10 MB': expected such as 4096, 64 KiB or 10 MiB (10 MiB)"),
        ("-1", "1:1 bad-value: size '-1': expected such as 4096, 64 KiB or 10 MiB"),
        ("0", "1:1 out-of-range: size '0': expected above 0 to 1024 GiB"),
        ("2000G", "1:1 out-of-range: size '2000G': expected above 0 to 1024 GiB"),
        ("{}", "1:1 wrong-type: a mapping: expected a size such as 10 MiB"),
    ],
)
def test_texts_that_are_no_sizes(text: str, message: str) -> None:
    scope = a_scope()
    assert parse_size(node_of(text), scope) is None
    assert said(scope) == [message]

"""Elements of sets as text, both ways."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfilter.control.elements import count_file, read_element, show_element, show_file
from qfilter.engine.sets import Element
from qfilter.errors import ControlError
from qfilter.model.policy import SetDefinition
from qfilter.policy.load import loads

SETS = loads(
    """version: 1
default: {input: drop}
sets:
  addresses:
    type: address
    elements: [192.0.2.0/24, 198.51.100.7, 203.0.113.1-203.0.113.3, 0.0.0.0/8, '2001:db8::/32', '::1', '::/0']
  some: {type: address, elements: [198.51.100.7, 192.0.2.0/24, 203.0.113.1-203.0.113.3, '2001:db8::/32', '::1']}
  ports: {type: port, elements: [22, 8000-8010, https]}
  numbers: {type: number, elements: [0, 18446744073709551615]}
  strings: {type: string, elements: [b, a, "tab\\there", 'back\\slash']}
rules:
  - {match: {saddr: $addresses}, verdict: drop}
  - {match: {daddr: $some, dport: $ports}, verdict: drop}
  - {match: {mark: $numbers}, verdict: drop}
  - {match: {iifname: $strings}, verdict: drop}
"""
).sets


@pytest.mark.parametrize(
    ("name", "text", "element"),
    [
        ("some", "192.0.2.7", ip_address("192.0.2.7")),
        ("some", "2001:DB8::7", ip_address("2001:db8::7")),
        ("ports", "443", 443),
        ("ports", "https", 443),
        ("numbers", "0x10", 16),
        ("strings", "wlan 0", b"wlan 0"),
        ("strings", "ü", "ü".encode()),
        ("strings", "\\x00\\\\\\xff", b"\0\\\xff"),
        ("strings", "\udcff", b"\xff"),
    ],
)
def test_what_can_be_added(name: str, text: str, element: Element) -> None:
    assert read_element(SETS[name], text) == element


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "some",
            "192.0.2.0/24",
            "element '192.0.2.0/24': expected one address; prefixes and ranges stand in the policy",
        ),
        ("some", "192.0.2.1-192.0.2.2", "expected one address"),
        ("some", "192.0.2.300", "address '192.0.2.300': expected an IPv4 or IPv6 address"),
        ("some", "::ffff:192.0.2.1", "expected the IPv4 form (did you mean '192.0.2.1'?)"),
        ("some", "", "address ''"),
        ("ports", "70000", "port 70000: expected 0 to 65535"),
        ("ports", "22-23", "element '22-23': expected one port; ranges stand in the policy"),
        ("numbers", "1-10", "element '1-10': expected one number; ranges stand in the policy"),
        ("numbers", "-1", "number -1: expected 0 to"),
        ("strings", "a\\b", "element 'a\\\\b': expected \\\\ or such as \\x20 for a backslash"),
        ("strings", "x" * 4097, "expected at most 4096 bytes"),
    ],
)
def test_what_cannot_be_added(name: str, text: str, said: str) -> None:
    with pytest.raises(ControlError) as caught:
        read_element(SETS[name], text)
    assert said in str(caught.value)


@given(st.binary(max_size=64))
def test_a_text_is_shown_as_it_can_be_typed(data: bytes) -> None:
    shown = show_element(data)
    assert shown.isprintable()
    assert read_element(SETS["strings"], shown) == data


def test_what_is_kept_of_a_long_text() -> None:
    assert show_element(("digest", b"\x01\xff")) == "blake2b:01ff"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("some", ["192.0.2.0/24", "198.51.100.7", "203.0.113.1-203.0.113.3", "::1", "2001:db8::/32"]),
        ("ports", ["22", "443", "8000-8010"]),
        ("numbers", ["0", "18446744073709551615"]),
        ("strings", ["a", "b", "back\\\\slash", "tab\\x09here"]),
    ],
)
def test_the_elements_of_the_file(name: str, shown: list[str]) -> None:
    assert list(show_file(SETS[name])) == shown
    assert count_file(SETS[name]) == len(shown)


def test_the_whole_of_a_family() -> None:
    assert list(show_file(SETS["addresses"]))[-1] == "::/0"
    assert show(SETS["addresses"])[0] == "0.0.0.0/8"


def show(definition: SetDefinition) -> list[str]:
    return list(show_file(definition))

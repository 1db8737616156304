"""Sets: inline, from files, dynamic."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from qfilter.errors import PolicyError
from qfilter.model.match import Addresses, Ranges
from qfilter.model.policy import Policy, SetDefinition, SetType, Strings
from qfilter.policy.load import loads
from qfilter.policy.sources import MAX_BYTES, MAX_LIST_BYTES

HEAD = "version: 1\ndefault: {input: drop}\n"
FIELD = {"address": "saddr", "port": "dport", "number": "ttl", "string": "iifname"}


def policy(text: str, type: str, folder: Path) -> Policy:
    rule = f"rules: [{{match: {{{FIELD[type]}: $s}}, verdict: drop}}]"
    return loads(f"{HEAD}sets: {{s: {{type: {type}, {text}}}}}\n{rule}", "policy.yaml", folder=folder)


def one(text: str, type: str, folder: Path) -> SetDefinition:
    return policy(text, type, folder).sets["s"]


def said(text: str, type: str, folder: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        policy(text, type, folder)
    return [str(found) for found in caught.value.diagnostics]


def test_addresses_are_sorted_and_merged(tmp_path: Path) -> None:
    found = one(
        "elements: [192.0.2.128/25, 192.0.2.0-192.0.2.127, 2001:db8::/32, 192.0.2.7, 10.0.0.1]", "address", tmp_path
    )
    assert found.elements == Addresses(
        v4=(
            (int(IPv4Address("10.0.0.1")), int(IPv4Address("10.0.0.1"))),
            (int(IPv4Address("192.0.2.0")), int(IPv4Address("192.0.2.255"))),
        ),
        v6=((int(IPv6Address("2001:db8::")), int(IPv6Address("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"))),),
    )


@pytest.mark.parametrize(
    ("type", "elements", "expected"),
    [
        ("port", "[80, https, 8000-8080, 81]", Ranges(((80, 81), (443, 443), (8000, 8080)))),
        ("number", "[0x10, 3-5]", Ranges(((3, 5), (16, 16)))),
        ("string", "[eth0, 'no', eth0]", Strings(frozenset({b"eth0", b"no"}))),
        ("port", "22", Ranges(((22, 22),))),
    ],
)
def test_types(type: str, elements: str, expected: Ranges | Strings, tmp_path: Path) -> None:
    assert one(f"elements: {elements}", type, tmp_path).elements == expected


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "ports.txt").write_bytes(b"# ours\n\n22\r\n  80-81 # web\nhttps\t# tls\n82")
    found = one("file: ports.txt", "port", tmp_path)
    assert found.elements == Ranges(((22, 22), (80, 82), (443, 443)))


def test_a_file_of_strings_keeps_a_sharp_inside_a_word(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a#b\nc #d\n")
    assert one("file: names.txt", "string", tmp_path).elements == Strings(frozenset({b"a#b", b"c"}))


def test_every_bad_line_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("192.0.2.1\n 192.0.2.1/24 # hosts\n2001:db8::/200\nexample.org\n")
    first, *rest = said("file: list.txt", "address", tmp_path)
    assert first.startswith("list.txt:2:2: error: prefix '192.0.2.1/24': bits are set behind its length: expected")
    assert first.endswith("(did you mean '192.0.2.0/24'?)")
    assert rest == [
        "list.txt:3:1: error: prefix length 200: expected 0 to 128",
        "list.txt:4:1: error: address 'example.org': expected an IPv4 or IPv6 address, a prefix or a range",
    ]


def test_a_hundred_bad_lines_are_enough(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("x\n" * 250)
    lines = said("file: list.txt", "address", tmp_path)
    assert len(lines) == 101
    assert lines[-1] == "policy.yaml:3:33: error: 'list.txt' has 150 more bad lines that are not shown"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file: none.txt", "'none.txt' matches no file"),
        ("file: ../x", "'../x' leaves the policy's folder: expected a path below it, without '..'"),
        ("file: bad.txt", "bad.txt:2:1: error: byte 0xff is not UTF-8"),
        ("file: 5", "the number '5': expected a path; quotes make it a text"),
        ("elements: {}", "a mapping: expected an element of a set of type address"),
        ("elements: [$s]", "set 's': expected"),
        ("elements: [], file: ok.txt", "set 's' has elements and file: expected one"),
        ("dynamic: false", "set 's': expected elements, file or dynamic: true"),
        ("elements: [], timeout: 5m", "timeout of set 's' needs dynamic: true"),
        ("elements: [], size: 5", "size of set 's' needs dynamic: true"),
        ("dynamic: true, size: 0", "the number '0': expected at least 1"),
        ("dynamic: true, timeout: soon", "duration 'soon': expected such as 90s, 10m or 1h30m"),
        ("elements: [], tpye: x", "unknown key 'tpye': expected type, elements, file, dynamic, timeout, size"),
    ],
)
def test_sets_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"192.0.2.1\n\xff")
    (tmp_path / "ok.txt").write_text("192.0.2.1")
    (line,) = said(text, "address", tmp_path)
    assert message in line


def test_a_dynamic_set(tmp_path: Path) -> None:
    found = one("dynamic: true, timeout: 10m, size: 100, elements: [192.0.2.1]", "address", tmp_path)
    assert (found.dynamic, found.timeout, found.size, found.type) == (True, 600.0, 100, SetType.ADDRESS)
    assert one("dynamic: true", "address", tmp_path).elements == Addresses()


def test_adding_to_a_set_uses_it() -> None:
    rules = "rules: [{add: {set: seen, element: saddr}}]"
    assert list(loads(f"{HEAD}sets: {{seen: {{type: address, dynamic: true}}}}\n{rules}").sets) == ["seen"]


def test_a_hundred_thousand_entries(tmp_path: Path) -> None:
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n2001:db8:{n >> 1:x}::/64\n" for n in range(0, 100_000, 2)]
    (tmp_path / "list.txt").write_text("".join(lines))
    tracemalloc.start()
    found = one("file: list.txt", "address", tmp_path).elements
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(found, Addresses)
    assert len(found.v4) + len(found.v6) == 100_000
    assert peak - MAX_LIST_BYTES < 10 << 20  # what a file may have is asked for before it is read


def test_a_list_may_be_longer_than_a_policy(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"192.0.2.1".ljust(MAX_BYTES + 1))
    assert one("file: list.txt", "address", tmp_path).elements == Addresses(v4=[(0xC0000201, 0xC0000201)])
    (tmp_path / "list.txt").write_bytes(b"192.0.2.1".ljust(MAX_LIST_BYTES + 1))
    (line,) = said("file: list.txt", "address", tmp_path)
    assert line == "policy.yaml:3:33: error: the file has more than 67,108,864 bytes"


def test_what_is_wrong_is_shown_in_its_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("192.0.2.1 # é\r\n\t192.0.2.256 # no\n")
    with pytest.raises(PolicyError) as caught:
        policy("file: list.txt", "address", tmp_path)
    (found,) = caught.value.diagnostics
    assert (found.source, found.at.line, found.at.column, found.width) == ("\t192.0.2.256 # no", 2, 2, 11)

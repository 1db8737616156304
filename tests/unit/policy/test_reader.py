"""Bytes to nodes: positions, YAML 1.2 values, both of PyYAML's parsers."""

from __future__ import annotations

import math

import pytest
import yaml

from qfilter.errors import Position
from qfilter.policy import reader
from qfilter.policy.node import Mapping, Node, Scalar, Sequence
from qfilter.policy.problems import Problems
from qfilter.policy.reader import MAX_DEPTH, read
from qfilter.policy.sources import Sources


@pytest.fixture(params=["CLoader", "Loader"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(yaml, request.param):
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(reader, "_LOADER", getattr(yaml, request.param))


def parse(text: str) -> tuple[Node | None, list[str]]:
    sources = Sources()
    sources.add("p.yaml", text.encode())
    problems = Problems(sources.line, sources.stack)
    node = read(text.encode(), "p.yaml", problems)
    return node, [f"{found.at.line}:{found.at.column} {found.kind}" for found in problems.errors]


def scalar(text: str) -> Scalar:
    node, said = parse(f"k: {text}")
    assert said == []
    assert isinstance(node, Mapping)
    value = node.get("k")
    assert isinstance(value, Scalar)
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("y", "y"),
        ("0", 0),
        ("-12", -12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("2026-01-02", "2026-01-02"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("02:00:5e:00:53:01", "02:00:5e:00:53:01"),
        ("0-3", "0-3"),
        ("10/second", "10/second"),
        ("=", "="),
        ("'no'", "no"),
        ('"010"', "010"),
        ("'22:22'", "22:22"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = scalar(text)
    assert (found.value, type(found.value)) == (value, type(value))


def test_not_a_number() -> None:
    found = scalar(".nan").value
    assert isinstance(found, float)
    assert math.isnan(found)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "Yes",
        "ON",
        "off",
        "22:22",
        "12:00:50:00:53:01",
        "1:2:3:4:5:6:7:8",
        "1:30.5",
        "010",
        "-08",
        "00",
        "1_000",
        "0x_ff",
        "0b101",
        "1_0.5",
    ],
)
def test_traps(text: str) -> None:
    assert parse(f"k: {text}")[1] == ["1:4 yaml-trap"]
    assert parse(f"k: '{text}'")[1] == []


def test_positions_count_characters_from_one() -> None:
    node, _ = parse("grüße: 'ä b'\n\U0001f600: [x, \"é\", $y]\n")
    assert isinstance(node, Mapping)
    (key, value), (_, listed) = node.entries
    assert (key.at, key.width) == (Position("p.yaml", 1, 1), 5)
    assert (value.at, value.width) == (Position("p.yaml", 1, 8), 5)
    assert isinstance(listed, Sequence)
    assert [(item.at.column, item.width) for item in listed.items] == [(5, 1), (8, 3), (13, 2)]
    assert listed.at == Position("p.yaml", 2, 4)


def test_a_text_over_several_lines_is_underlined_to_the_end_of_its_first() -> None:
    node, _ = parse("a: 'one\n  two'\nb: 1\n")
    assert isinstance(node, Mapping)
    assert (node.entries[0][1].width, node.entries[1][1].at.line) == (4, 3)


def test_every_line_ending_counts_once() -> None:
    node, _ = parse("a: 1\r\nb: 2\rc: 3\n")
    assert isinstance(node, Mapping)
    assert [key.at.line for key, _ in node.entries] == [1, 2, 3]


def test_an_alias_is_the_node_of_its_anchor() -> None:
    node, said = parse("a: &x [1]\nb: *x\n")
    assert said == []
    assert isinstance(node, Mapping)
    assert node.get("a") is node.get("b")


def test_an_alias_of_nothing() -> None:
    assert parse("a: *x")[1] == ["1:4 undefined"]


def test_the_newest_anchor_counts_even_inside_the_older() -> None:
    node, said = parse("&x [&x a, *x]")
    assert said == []
    assert isinstance(node, Sequence)
    assert node.items[0] is node.items[1]


def test_all_that_is_wrong_is_said() -> None:
    text = "{a: no, a: 1, 5: x, [b]: 1, <<: {}, !!str c: 2, null: 3}"
    assert parse(text)[1] == [
        "1:5 yaml-trap",
        "1:9 duplicate-key",
        "1:15 key-type",
        "1:21 key-type",
        "1:29 merge-key",
        "1:37 tag",
        "1:49 key-type",
    ]


def test_every_control_character_is_said() -> None:
    places = ("1:4", "2:4", "2:6")
    assert parse("a: \x07\nb: \x85 \x00")[1] == [f"{place} control-character" for place in places]


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ("{a: ", "}")])
def test_depth(start: str, end: str) -> None:
    assert parse(start * MAX_DEPTH + "x" + end * MAX_DEPTH)[1] == []
    assert parse(start * (MAX_DEPTH + 1))[1] == [f"1:{len(start) * MAX_DEPTH + 1} too-deep"]


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_NODES", 10)
    assert parse("[1, 2, 3, 4, 5, 6, 7, 8, 9]")[1] == []
    assert parse("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")[1] == ["1:29 too-large"]

"""What nft prints as JSON, read; and the script that turns it into what should stand."""

from __future__ import annotations

import json

import pytest

from qfilter.fields import Family
from qfilter.firewall.nftables import UNKNOWN, base_chains, desired, has_table, parse, script
from qfilter.firewall.state import NOTHING, Chain, Ruleset, State, differences
from qfilter.model.hook import Hook
from qfilter.model.policy import Backend
from tests.unit.firewall.kernel_rules import least

WANTED = desired(least(Backend.NFT))
INPUT = "add chain inet qfilter input { type filter hook input priority filter; policy accept; }"
QUEUE = 'add rule inet qfilter input queue to 0 comment "queue to 0"'


def listed(*entries: tuple[str, dict[str, object]]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"version": "1.0.6"}}, *({kind: entry} for kind, entry in entries)]})


def rule(chain: str, comment: str | None) -> tuple[str, dict[str, object]]:
    said = {} if comment is None else {"comment": comment}
    return "rule", {"family": "inet", "table": "qfilter", "chain": chain, "handle": 7, "expr": [], **said}


def chain(family: str, table: str, name: str, hook: str | None) -> tuple[str, dict[str, object]]:
    said = {} if hook is None else {"hook": hook}
    return "chain", {"family": family, "table": table, "name": name, **said}


@pytest.mark.parametrize(
    ("entries", "chains"),
    [
        ([], {}),
        ([chain("inet", "qfilter", "input", "input")], {}),
        ([rule("input", "queue to 0")], {Hook.INPUT: Chain(("queue to 0",))}),
        ([rule("output", None), rule("output", "x")], {Hook.OUTPUT: Chain((UNKNOWN, "x"))}),
    ],
)
def test_rules_are_known_by_their_comments(
    entries: list[tuple[str, dict[str, object]]], chains: dict[Hook, Chain]
) -> None:
    assert parse(listed(*entries)).chains == chains


def test_only_base_chains_of_the_family_count() -> None:
    text = listed(
        chain("ip", "filter", "INPUT", "input"),
        chain("ip", "filter", "DOCKER", None),
        chain("ip6", "mangle", "OUTPUT", "output"),
        chain("inet", "filter", "input", "input"),
    )
    assert base_chains(text, Family.IPV4) == {"filter INPUT"}
    assert base_chains(text, Family.IPV6) == {"mangle OUTPUT"}


@pytest.mark.parametrize(
    ("family", "name", "found"), [("inet", "qfilter", True), ("ip", "qfilter", False), ("inet", "filter", False)]
)
def test_the_table_is_qfilters_by_family_and_name(family: str, name: str, found: bool) -> None:
    assert has_table(listed(("table", {"family": family, "name": name}))) is found


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (NOTHING, ["add table inet qfilter", INPUT, "flush chain inet qfilter input", QUEUE]),
        (parse(listed()), ["add table inet qfilter", INPUT, "flush chain inet qfilter input", QUEUE]),
        (
            parse(listed(rule("input", "queue to 0"), rule("input", None))),
            ["add table inet qfilter", INPUT, "flush chain inet qfilter input", QUEUE],
        ),
        (
            parse(listed(rule("input", "queue to 0"), rule("output", "queue to 0"))),
            ["add table inet qfilter", INPUT.replace("input", "output"), "flush chain inet qfilter output"],
        ),
        (parse(listed(rule("input", "queue to 0"))), []),
    ],
)
def test_whatever_stands_is_brought_to_what_should(found: State, lines: list[str]) -> None:
    assert script(found, WANTED).splitlines() == lines


def test_removal_takes_the_table_also_an_empty_one() -> None:
    assert script(parse(listed()), NOTHING) == "delete table inet qfilter\n"
    assert script(NOTHING, NOTHING) == ""


def test_rules_of_others_are_a_difference_and_are_not_put_back() -> None:
    found = parse(listed(rule("input", "queue to 0"), rule("input", None)))
    assert differences(Ruleset(Backend.NFT, None), found, WANTED) == (f"nft: input: foreign rule: {UNKNOWN}",)
    assert script(NOTHING, found).splitlines()[-1] == QUEUE

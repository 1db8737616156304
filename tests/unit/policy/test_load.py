"""What a policy that loads becomes, and that nothing but PolicyError comes out of one that does not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeGuard

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qfilter.errors import PolicyError, Position
from qfilter.model.hook import Hook
from qfilter.model.malformed import Malformed
from qfilter.model.match import Addresses, InSet, Ranges
from qfilter.model.policy import Backend, Exempt, QueueSettings, SetType, Target
from qfilter.model.rule import AllOf, Condition, FieldTest, Scope
from qfilter.model.spans import Pair
from qfilter.model.verdict import CAUSES, DROP, Decision, Kind, Reason, RejectWith
from qfilter.policy import comparisons
from qfilter.policy.contradictions import conjunction
from qfilter.policy.load import load, loads
from qfilter.policy.values import Numbers, parse_range

HEAD = "version: 1\ndefault: {input: drop}\n"


def problems(text: str | bytes, folder: Path | None = None) -> list[str]:
    """What is said of a policy that does not load."""
    with pytest.raises(PolicyError) as caught:
        loads(text, "policy.yaml", folder=folder)
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_the_policy_of_the_design_document(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/blocklist.txt").write_text("203.0.113.0/24\n")
    (tmp_path / "policy.yaml").write_text(DESIGN)
    path = str(tmp_path / "policy.yaml")
    policy = load(path)
    assert policy.files == (path, str(tmp_path / "lists/blocklist.txt"))
    assert policy.digest == hashlib.sha256(DESIGN.encode() + b"203.0.113.0/24\n").hexdigest()
    assert {hook: str(given.decision) for hook, given in policy.defaults.items()} == {
        Hook.INPUT: "drop",
        Hook.FORWARD: "drop",
        Hook.OUTPUT: "accept",
    }
    assert policy.defaults[Hook.FORWARD].at == Position(path, 7, 33)
    assert list(policy.on_failure) == list(CAUSES)
    assert set(policy.on_failure.values()) == {Kind.DROP}
    assert [(one.name, one.type, one.dynamic) for one in policy.sets.values()] == [
        ("management", SetType.ADDRESS, False),
        ("blocklist", SetType.ADDRESS, False),
    ]
    assert policy.sets["blocklist"].elements == Addresses(v4=((0xCB007100, 0xCB0071FF),))
    assert [rule.id for rule in policy.rules] == ["loopback", "blocked", "ssh", "dns"]
    ssh, dns = policy.rules[2:]
    assert (ssh.hooks, ssh.at) == ((Hook.INPUT,), Position(path, 12, 5))
    assert ssh.match == AllOf(
        (
            FieldTest("saddr", InSet("management"), Position(path, 12, 36)),
            FieldTest("protocol", Ranges(((6, 6),)), Position(path, 12, 56)),
            FieldTest("dport", Ranges(((22, 22),)), Position(path, 12, 71)),
        )
    )
    assert [(rule.id, rule.verdict) for rule in dns.rules] == [
        ("dns-tunnel", Decision(Kind.REJECT, RejectWith.PORT_UNREACHABLE)),
        ("dns-ok", Decision(Kind.ACCEPT)),
    ]
    assert [(case.packet["dport"], str(case.expect), case.exact, case.by) for case in policy.tests] == [
        (22, "accept", True, "ssh"),
        (22, "drop", True, "default"),
    ]
    assert policy.warnings == ()


DESIGN = """version: 1
define:
  lan: [192.0.2.0/24, 2001:db8:1::/64]
sets:
  management: {type: address, elements: [192.0.2.10, 2001:db8:1::10]}
  blocklist:  {type: address, file: lists/blocklist.txt}
default: {input: drop, forward: drop, output: accept}
on_failure: {malformed: drop, fragment: drop, error: drop, queue_full: drop, no_listener: drop}
rules:
  - {id: loopback, match: {iifname: lo}, verdict: accept}
  - {id: blocked, match: {saddr: $blocklist}, log: true, verdict: drop}
  - {id: ssh, hook: input, match: {saddr: $management, protocol: tcp, dport: 22}, verdict: accept}
  - id: dns
    match: {protocol: udp, dport: 53}
    rules:
      - {id: dns-tunnel, match: {scapy.DNSQR.qname: {regex: '^[^.]{50,}'}}, verdict: reject}
      - {id: dns-ok, match: {saddr: $lan}, verdict: accept}
tests:
  - {packet: {saddr: 192.0.2.10, protocol: tcp, dport: 22, hook: input}, expect: accept, by: ssh}
  - {packet: {saddr: 198.51.100.7, protocol: tcp, dport: 22, hook: input}, expect: drop, by: default}
"""


def test_the_least_policy() -> None:
    policy = loads(HEAD)
    assert policy.defaults[Hook.INPUT].decision == DROP
    assert policy.queue == QueueSettings()
    assert not policy.rules
    assert not policy.allow
    assert set(policy.on_failure.values()) == {Kind.DROP}


def test_settings() -> None:
    policy = loads(
        HEAD
        + "on_failure: {queue_full: accept}\n"
        + "allow: tcp-flags\n"
        + "queue: {number: 4-7, backend: nft, length: 2048, copy_range: 256, socket_buffer: 8 MiB, cpu_fanout: true,\n"
        + "        exempt: [lo, established, lo], mark_mask: 0xf0}\n"
    )
    assert policy.on_failure[Reason.QUEUE_FULL] == Kind.ACCEPT
    assert policy.on_failure[Reason.MALFORMED] == Kind.DROP
    assert policy.allow == {Malformed.TCP_FLAGS}
    assert policy.queue == QueueSettings(
        first=4,
        last=7,
        target=Target.NFQUEUE,
        backend=Backend.NFT,
        length=2048,
        copy_range=256,
        socket_buffer=8 << 20,
        cpu_fanout=True,
        exempt=(Exempt.LO, Exempt.ESTABLISHED),
        mark_mask=0xF0,
    )


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ("number: 3-1", "3:17: error: range '3-1': expected its end above its start"),
        ("number: 70000", "3:17: error: queue 70000: expected 0 to 65535"),
        ("number: one", "3:17: error: 'one': expected a queue number, or a range such as 0-3"),
        ("cpu_fanout: true", "3:21: error: cpu_fanout needs several queues: expected number such as 0-3"),
        ("mark_mask: many", "3:20: error: 'many': expected a whole number"),
        ("target: NFQUEUE", "3:17: error: 'NFQUEUE': expected one of nfqueue, queue"),
        ("exempt: [lo, new]", "3:22: error: 'new': expected one of lo, established"),
        ("copy_range: 20", "3:21: error: the number '20': expected at least 40"),
        ("socket_buffer: big", "3:24: error: size 'big': expected such as 4096, 64 KiB or 10 MiB"),
    ],
)
def test_a_queue_that_cannot_be(queue: str, said: str) -> None:
    assert problems(f"{HEAD}queue: {{{queue}}}") == [f"policy.yaml:{said}"]


@pytest.mark.parametrize("verdict", ["{queue: 3}", "repeat"])
def test_a_default_ends_the_evaluation(verdict: str) -> None:
    (said,) = problems(f"version: 1\ndefault: {{input: {verdict}}}")
    assert said.endswith("expected accept, drop or reject")


def test_a_default_for_no_hook() -> None:
    (said,) = problems("version: 1\ndefault: {}")
    assert said.startswith("policy.yaml:2:10: error: expected a default for at least one of prerouting, input,")


def test_ids_come_from_positions() -> None:
    policy = loads(
        HEAD + "rules: [{match: {dport: 1}, verdict: drop}, {match: {dport: 2}, verdict: drop}]\n", "rules/web.yaml"
    )
    assert [rule.id for rule in policy.rules] == ["web.yaml:3", "web.yaml:3:45"]


def test_a_rule_that_an_alias_repeats() -> None:
    lines = problems(HEAD + "rules: [&r {match: {dport: 1}, log: true}, *r, *r]")
    assert lines == ["policy.yaml:3:9: error: this rule stands in several places: expected one"]


def test_every_wrong_item_of_a_list_is_said() -> None:
    assert len(problems(HEAD + "rules: [{hook: [inptu, input, out], verdict: drop}]")) == 2


def test_flow_needs_a_verdict() -> None:
    rule = loads(HEAD + "rules: [{scope: flow, verdict: accept}]").rules[0]
    assert rule.scope is Scope.FLOW
    assert problems(HEAD + "rules: [{scope: flow, log: true}]") == [
        "policy.yaml:3:10: error: scope flow needs a verdict in the same rule"
    ]


def test_references_stand_for_values_everywhere() -> None:
    policy = loads(
        HEAD
        + "define: {m: {dport: $web}, web: [80, $tls], tls: [443], v: reject no-route, hooks: [input, $x], x: output}\n"
        + "rules: [{hook: $hooks, match: $m, verdict: $v}]"
    )
    (rule,) = policy.rules
    assert rule.hooks == (Hook.INPUT, Hook.OUTPUT)
    assert rule.verdict == Decision(Kind.REJECT, RejectWith.NO_ROUTE)
    assert rule.match == AllOf((FieldTest("dport", Ranges(((80, 80), (443, 443))), Position("<policy>", 3, 14)),))


def test_a_quoted_dollar_is_text() -> None:
    (rule,) = loads(HEAD + "rules: [{match: {iifname: '$lan'}, verdict: drop}]").rules
    assert "$lan" in str(rule.match)


def test_a_set_is_no_value() -> None:
    text = HEAD + "sets: {s: {type: port, elements: [22]}}\nqueue: {length: $s}"
    assert problems(text) == ["policy.yaml:4:17: error: set 's': expected a value"]


def test_all_mistakes_are_said_at_once() -> None:
    text = HEAD + (
        "queue: {lenght: 5}\n"
        "define: {lan: 192.0.2.0/24}\n"
        "rules:\n"
        "- {id: a, hok: input, match: {dport: 70000, saddr: $lann}, verdict: acept}\n"
        "- {id: a, match: {saddr: 192.0.2.1/24}, verdict: drop}\n"
    )
    assert [line.partition(": error")[0] for line in problems(text)] == [
        "policy.yaml:3:9",
        "policy.yaml:4:10",
        "policy.yaml:6:11",
        "policy.yaml:6:38",
        "policy.yaml:6:52",
        "policy.yaml:6:69",
        "policy.yaml:7:8",
        "policy.yaml:7:26",
    ]
    assert problems(text)[0].endswith("(did you mean 'length'?)")


def test_a_trap_is_said_once() -> None:
    (said,) = problems(HEAD + "rules: [{match: {dport: 22:22}, verdict: drop}]")
    assert "YAML 1.1 reads it as a number in base 60; quote it" in said


def test_expect_a_kind_or_an_exact_verdict() -> None:
    packet = "packet: {hook: input}"
    policy = loads(
        f"version: 1\ndefault: {{input: reject}}\ntests: [{{{packet}, expect: reject}},"
        f" {{{packet}, expect: {{reject: no-route}}}}]"
    )
    assert [(str(case.expect), case.exact) for case in policy.tests] == [
        ("reject port-unreachable", False),
        ("reject no-route", True),
    ]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("{packet: {hook: forward}, expect: drop}", "3:9: error: hook 'forward' has no default in this policy"),
        ("{packet: {hook: in}, expect: drop}", "3:25: error: hook 'in': expected one of prerouting"),
        ("{packet: {saddr: 192.0.2.1}, expect: drop}", "3:18: error: a packet needs a hook"),
        ("{packet: {hook: input, sadr: 1}, expect: drop}", "3:32: error: 'sadr' is not a field that a packet can"),
        ("{packet: [], expect: drop}", "3:18: error: a list: expected a packet by its fields"),
        ("{packet: {hook: input}, expect: maybe}", "3:41: error: verdict 'maybe'"),
        ("{packet: {hook: input, saddr: {not: 1}}, expect: drop}", "3:39: error: a mapping: expected a value"),
        ("{after: [{hook: output}], packet: {hook: input}, expect: drop}", "3:9: error: hook 'output' has no default"),
        ("{after: [{dport: 22}], packet: {hook: input}, expect: drop}", "3:18: error: a packet needs a hook"),
        ("{after: {hook: input}, packet: {hook: input}, expect: drop}", "3:17: error: a mapping: expected a list"),
        ("{packet: {hook: input}, times: 0, expect: drop}", "3:40: error: the number '0': expected at least 1"),
    ],
)
def test_a_test_that_cannot_run(test: str, said: str) -> None:
    (found,) = problems(f"{HEAD}tests: [{test}]")
    assert found.startswith(f"policy.yaml:{said}")


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load(str(tmp_path / "none.yaml"))
    assert str(caught.value).endswith("none.yaml': no such file or directory")


# Any bytes, any YAML: a policy or PolicyError, and each mistake with a place in the text.

KEYS = "version define sets default input rules match saddr dport verdict include id hook tests packet expect by queue"
WORDS = "number any not type elements port log limit rate file reject drop mark set $a a *.yaml 192.0.2.0/24 22 0-3"
words = st.sampled_from([*KEYS.split(), *WORDS.split()])
values = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(), inner, max_size=4),
    max_leaves=25,
)


def attempt(data: str | bytes) -> None:
    try:
        loads(data, folder=Path("/nonexistent"))
        said = None
    except PolicyError as error:
        said = error.diagnostics
    assert said != ()
    assert all(one.at.line >= 1 and one.at.column >= 1 and one.width >= 1 for one in said or ())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300))
@example("[" * 100_000)
@example("- " * 100_000)
@example("a: &a [*a, *a]")
@example("? " * 1_000)
@example("\ud800")
@example("{" * 2_000 + "a")
@example("x: " + "9" * 5_000)
@example("x: 0x" + "f" * 5_000)
@example("%YAML 99999999999999999999.1\n---\n")
@example("%TAG ! tag:x:\n--- !a b")
def test_any_text(data: str | bytes) -> None:
    attempt(data)


sections = dict.fromkeys(("define", "sets", "rules", "tests", "queue", "include", "allow", "on_failure"), values)
least: dict[str, st.SearchStrategy[object]] = {"version": st.just(1), "default": st.just({"input": "drop"})}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries(least, optional=sections))
def test_any_document(document: dict[str, object]) -> None:
    attempt(yaml.safe_dump(document, sort_keys=False))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_a_good_policy(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(DESIGN)))
    length = data.draw(st.integers(0, 20))
    attempt(DESIGN[:start] + data.draw(st.text(max_size=5)) + DESIGN[start + length :])


def deep(levels: int) -> str:
    lines = [HEAD + "rules:\n"]
    lines += [f"{'  ' * level}- id: r{level}\n{'  ' * level}  rules:\n" for level in range(levels)]
    return "".join(lines) + f"{'  ' * levels}- {{id: last, verdict: drop}}\n"


def test_rules_inside_each_other() -> None:
    rule = loads(deep(30)).rules[0]
    while rule.rules:
        rule = rule.rules[0]
    assert rule.id == "last"
    assert "more than 64 lists and mappings inside each other" in problems(deep(40))[0]


def test_ten_thousand_rules() -> None:
    lines = (
        f"- {{id: r{n}, match: {{saddr: 10.{n >> 8}.{n & 255}.0/24, dport: {n + 1}}}, verdict: accept}}\n"
        for n in range(10_000)
    )
    rules = loads(HEAD + "rules:\n" + "".join(lines)).rules
    assert (len(rules), rules[-1].at.line) == (10_000, 10_003)


BEHIND = "  - {id: dns, match: {protocol: udp, dport: 53}, verdict: accept}\n"
LAN = "define: {lan: [192.0.2.0/24]}\n"
SEEN = "sets: {seen: {type: address, dynamic: true}}\n"


@pytest.mark.parametrize(
    ("names", "rule", "mistake"),
    [
        ("", "match: {icmp.typ: echo-request}, verdict: accept", "unknown field 'icmp.typ'"),
        ("", "match: {saddr: 10.0.0.1/8}, verdict: accept", "prefix '10.0.0.1/8': bits are set behind its length"),
        ("", "match: , verdict: accept", "nothing: expected a mapping of fields to values"),
        ("", "match: {sadr: 192.0.2.1}, rules: [{verdict: accept}]", "unknown field 'sadr'"),
        ("", "hook: inptu, verdict: accept", "'inptu': expected one of prerouting"),
        ("", "limit: {rat: 1/second}, verdict: accept", "unknown key 'rat'"),
        ("", "mach: {dport: 1}, verdict: accept", "unknown key 'mach'"),
        ("", "match: {mark: x}, mark: 1, verdict: repeat", "mark 'x': expected 0 to 4294967295"),
        (LAN, "match: {sadr: $lan}, verdict: accept", "unknown field 'sadr'"),
        (LAN, "mach: {saddr: $lan}, verdict: accept", "unknown key 'mach'"),
        (SEEN, "match: {dport: 1}, add: {set: seen, elemnt: saddr}", "unknown key 'elemnt'"),
    ],
)
def test_one_mistake_is_told_as_one(names: str, rule: str, mistake: str) -> None:
    (told,) = problems(f"{HEAD}{names}rules:\n  - {{id: ping, {rule}}}\n{BEHIND}")
    assert f"error: {mistake}" in told


@pytest.mark.parametrize("default", ["{inptu: drop, output: drop}", "{input: drp, output: drop}"])
def test_a_default_that_cannot_be_read_says_nothing_of_rules_and_tests(default: str) -> None:
    case = "{packet: {hook: input, protocol: udp, dport: 53}, expect: accept, by: d n s}"
    rule = "  - {id: dns, hook: input, match: {protocol: udp, dport: 53}, verdict: accept}\n"
    (told,) = problems(f"version: 1\ndefault: {default}\nrules:\n{rule}tests: [{case.replace('d n s', 'dns')}]\n")
    assert "policy.yaml:2:" in told


def test_a_wrong_id_is_one_mistake_though_tests_name_it() -> None:
    case = "{packet: {hook: input, protocol: udp, dport: 53}, expect: accept, by: d n s}"
    (told,) = problems(f"{HEAD}rules:\n{BEHIND.replace('dns', 'd n s')}tests: [{case}]\n")
    assert "'d n s': expected letters, digits, and any of _ . - behind the first" in told


def test_a_name_that_nothing_uses_is_told_beside_another_mistake() -> None:
    told = problems(f"{HEAD}{LAN}rules:\n  - {{match: {{sadr: 192.0.2.1}}, verdict: accept}}\n")
    assert [each.partition(": error: ")[2].partition(":")[0] for each in told] == [
        "nothing refers to '$lan'",
        "unknown field 'sadr'",
    ]


def test_words_of_a_mistake_are_those_of_the_policy() -> None:
    assert problems("version: 1\ndefault: {input: drop}\non_failure: {error: reject}\n") == [
        "policy.yaml:3:21: error: 'reject': expected one of accept, drop"
    ]
    (told,) = problems(f"{HEAD}rules: [{{match: {{protocol: tpc}}, verdict: accept}}]\n")
    assert told.endswith("(did you mean 'tcp'?)")


@pytest.mark.parametrize(
    ("mode", "group", "said"),
    [
        (0o644, 0, ""),
        (0o664, 0, ""),
        (0o600, 65534, ""),
        (0o664, 65534, "(mode 0664): expected at most 0644"),
        (0o646, 0, "(mode 0646): expected at most 0644"),
        (0o666, 65534, "(mode 0666): expected at most 0644"),
    ],
)
def test_files_that_others_can_write_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group: int, said: str
) -> None:
    texts = {
        "policy.yaml": f"{HEAD}include: more.yaml\nrules: [{{match: {{saddr: $bad}}, verdict: accept}}]\n",
        "more.yaml": "sets: {bad: {type: address, file: bad.txt}}\n",
        "bad.txt": "192.0.2.1\n",
    }
    monkeypatch.chdir(tmp_path)
    for name, text in texts.items():
        Path(name).write_text(text)
        Path(name).chmod(mode)
    real = os.fstat

    def of_group(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[5] = group
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", of_group)
    told = [f"{name}:1:1: warning: '{name}' can be written by others {said}" for name in sorted(texts)]
    assert sorted(map(str, load("policy.yaml").warnings)) == (told if said else [])


def test_a_definition_is_read_once_for_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(text: str, numbers: Numbers) -> Pair:
        read.append(text)
        return parse_range(text, numbers)

    monkeypatch.setattr(comparisons, "parse_range", noted)
    rules = "".join(
        f"  - {{match: {{saddr: 192.0.2.{n}, dport: $web, sport: [7, $web]}}, count: a}}\n" for n in range(9)
    )
    policy = loads(f"{HEAD}define: {{http: [80, 8080], web: [443, $http]}}\nrules:\n{rules}")
    assert sorted(read) == sorted(["443", "80", "8080"] * 2 + ["7"] * 9)
    ports = [test.match for rule in policy.rules for test in conjunction(rule.match) if _is_of(test, "dport")]
    assert ports == [Ranges(((80, 80), (443, 443), (8080, 8080)))] * 9


def _is_of(test: Condition, field: str) -> TypeGuard[FieldTest]:
    return isinstance(test, FieldTest) and test.field == field

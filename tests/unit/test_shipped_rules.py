"""Every policy and library below rules/: it loads without a warning, its tests pass, and they leave no rule out."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

import qfilter
from qfilter.engine.tallies import all_rules
from qfilter.fields import Family
from qfilter.policy.schema import json_schema

RULES = Path(__file__).resolve().parents[2] / "rules"
POLICIES = sorted(RULES.glob("*.yaml"))
LIBRARIES = sorted(RULES.glob("lib/*.yaml"))
FILES = (*POLICIES, *LIBRARIES)

# The least that a policy must say to include a library, and to accept what the library does not refuse.
INCLUDING = """
version: 1
default: {{prerouting: accept, input: accept, forward: accept, output: accept, postrouting: accept}}
define: {{outside: eth0{more}}}
sets: {{neighbours: {{type: address, elements: [192.168.1.1]}}}}
rules:
  - {{id: used, match: {{iifname: $outside, saddr: $neighbours, mark: 1}}, verdict: drop}}
  - include: {library}
tests:
  - {{packet: {{hook: input, iifname: eth0, saddr: 192.168.1.1, mark: 1}}, expect: drop, by: used}}
  - {{packet: {{hook: input, iifname: eth0, saddr: 192.168.1.1, protocol: tcp}}, expect: accept, by: default}}
  - {{packet: {{hook: input, iifname: eth0, saddr: 192.31.196.1, protocol: tcp}}, expect: accept, by: default}}
  - {{packet: {{hook: input, iifname: eth0, saddr: '2620:4f:8000::1', protocol: tcp}}, expect: accept, by: default}}
  - {{packet: {{hook: forward, oifname: eth0, daddr: 192.31.196.1, protocol: udp}}, expect: accept, by: default}}
  - {{packet: {{hook: output, oifname: eth0, daddr: 'ff02::1', protocol: udp}}, expect: accept, by: default}}
  - {{packet: {{hook: prerouting, iifname: eth0, saddr: 'fe80::1', icmpv6.type: 135}}, expect: accept, by: default}}
"""
MORE = {"hostile": ", ours: 192.175.48.1, management: 192.175.48.2"}

# What `hostile` needs to be told apart: who is never blocked, and whose addresses nobody else has.
OURS = """
tests:
  - {packet: {hook: input, iifname: eth0, saddr: 192.175.48.1, protocol: tcp}, expect: drop, by: ours-from-outside}
  - packet: {hook: input, iifname: eth0, saddr: 192.175.48.2, protocol: tcp, dport: 80}
    times: 300
    expect: accept
    by: default
"""


def including(library: Path, folder: Path) -> Path:
    """A policy in `folder` that includes a copy of the library."""
    shutil.copytree(RULES / "lib", folder / "lib")
    policy = folder / "policy.yaml"
    text = INCLUDING.format(library=f"lib/{library.name}", more=MORE.get(library.stem, ""))
    policy.write_text(text + (OURS.partition("tests:\n")[2] if library.stem in MORE else ""))
    return policy


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(RULES)))
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> qfilter.Policy:
    path: Path = request.param
    return qfilter.load(path if path in POLICIES else including(path, tmp_path))


def test_all_of_them_are_there() -> None:
    names = {str(path.relative_to(RULES)) for path in FILES}
    assert names >= {"demo.yaml", "workstation.yaml", "web-server.yaml", "gateway.yaml"}
    assert names >= {f"lib/{name}.yaml" for name in ("bogons", "hostile", "icmp", "services")}


def test_it_loads_without_a_warning(policy: qfilter.Policy) -> None:
    assert [str(warning) for warning in policy.model.warnings] == []


def test_its_tests_pass_and_match_every_rule(policy: qfilter.Policy) -> None:
    outcome = policy.test()
    assert [str(failure.diagnostic()) for failure in outcome.failures] == []
    assert [rule.id for rule in outcome.untested] == []


def test_its_tests_are_of_both_families(policy: qfilter.Policy) -> None:
    addresses = [
        str(case.packet[name]) for case in policy.model.tests for name in ("saddr", "daddr") if name in case.packet
    ]
    assert {Family.IPV6 if ":" in address else Family.IPV4 for address in addresses} == set(Family)


def test_every_rule_has_a_name(policy: qfilter.Policy) -> None:
    """Events and tables name the rule: a position alone tells an operator little."""
    assert [rule.id for rule in all_rules(policy.model.rules) if ":" in rule.id] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RULES)))
def test_the_schema_takes_it(path: Path) -> None:
    schema = json_schema(included=path in LIBRARIES)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RULES)))
def test_a_comment_on_top_says_when_to_use_it(path: Path) -> None:
    head = path.read_text().partition("version: 1")[0]
    assert head.startswith("# ")
    if path.name != "demo.yaml":
        for words in ("# Use it ", "not "):
            assert words in head
        assert ("qfilter run" in head) is (path in POLICIES)


def test_names_of_services_are_ready_to_use(tmp_path: Path) -> None:
    names = yaml.safe_load((RULES / "lib/services.yaml").read_text())["define"]
    shutil.copytree(RULES / "lib", tmp_path / "lib")
    rules = "\n".join(f"  - {{match: {{protocol: tcp, dport: ${name}}}, verdict: accept}}" for name in names)
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\ninclude: lib/services.yaml\ndefault: {{input: drop}}\nrules:\n{rules}\n")
    assert len(qfilter.load(path).model.rules) == len(names) > 40


EDITS = {
    "web-server": {
        "outside: eth0": "outside: ens*",
        "198.51.100.2": "10.3.0.80",
        "2001:db8:2::2": "fd00:3::80",
        "192.0.2.2": "10.3.0.7",
        "2001:db8:1::2": "fd00:3::7",
    },
    "gateway": {
        "outside: wan": "outside: ppp*",
        "lan: lan": "lan: br0",
        "192.0.2.0/24, 2001:db8:1::/64": "192.168.7.0/24, fd00:7::/64",
        "192.0.2.9": "192.168.7.9",
        "2001:db8:1::9": "fd00:7::9",
        "192.0.2.2": "192.168.7.2",
        "2001:db8:1::2": "fd00:7::2",
        "[198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32]": "[]",
    },
}


@pytest.mark.parametrize("name", EDITS)
def test_an_operator_edits_the_definitions_and_no_test(name: str, tmp_path: Path) -> None:
    shutil.copytree(RULES, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{name}.yaml"
    head, rules, rest = path.read_text().partition("\nrules:\n")
    for old, new in EDITS[name].items():
        assert old in head
        head = head.replace(old, new)
    path.write_text(head + rules + rest)
    assert [str(failure.diagnostic()) for failure in qfilter.load(path).test().failures] == []

"""`qfilter explain --plan`: what a policy becomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qfilter.fields import FIELDS
from tests.unit.cli.conftest import Command

POLICY = r"""version: 1
default: {input: drop, forward: accept}
queue: {number: 4-7, length: 2048, exempt: [lo]}
on_failure: {queue_full: accept}
rules:
  - id: dns
    match: {protocol: udp, dport: 53}
    rules:
      - {id: tunnel, match: {scapy.DNSQR.qname: {regex: '^[^.]{50}'}}, verdict: reject}
      - {id: odd, match: {payload: {regex: 'a(?i)*'}}, verdict: drop}
  - {id: web, match: {saddr: 192.0.2.0/24, payload: {starts_with: "GET "}}, verdict: accept}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(POLICY)
    return "p.yaml"


def test_a_transcript(qfilter: Command, path: str) -> None:
    done = qfilter("explain", path, "--plan")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:9] == [
        "copies   65,531 bytes of each packet at most",
        "queue    4-7, 2,048 packets long; full: accept; without a listener: drop",
        "kernel   nfqueue for packets at input, forward, but not of lo; rejects come back by mark 0xf0000000",
        "rules",
        "  dns at p.yaml:6:5 native",
        "    tunnel at p.yaml:9:9 python: scapy.DNSQR.qname",
        "    odd at p.yaml:10:9 python: payload regex",
        "  web at p.yaml:11:5 native",
        "total    4 rules: 2 native, 2 with Python",
    ]
    assert lines[9].startswith("document ")
    assert [re.sub(r"^matcher  [0-9,]+ bytes", "matcher  bytes", line) for line in lines[10:]] == [
        "matcher  bytes; rules are found by protocol, saddr",
        "  protocol: 4 classes of values, 2 vectors of rules",
        "  saddr: 5 classes of values, 2 vectors of rules",
        "  asked of what they leave: dport",
    ]


def test_rules_that_a_search_of_the_payload_leaves_out(qfilter: Command, path: str) -> None:
    rules = "".join(f"  - {{match: {{payload: {{contains: w{i}}}}}, verdict: drop}}\n" for i in range(600))
    Path(path).write_text(f"version: 1\ndefault: {{output: drop}}\nrules:\n{rules}")
    assert qfilter("explain", path, "--plan").out.splitlines()[-2:] == [
        "matcher  0 bytes; every rule is asked",
        "  payload: one search for all literals rules out those of 600 that need others",
    ]


def test_the_least_policy_copies_only_headers(qfilter: Command, path: str) -> None:
    Path(path).write_text("version: 1\ndefault: {output: drop}\n")
    assert qfilter("explain", path, "--plan").out.splitlines()[:5] == [
        "copies   128 bytes of each packet at most",
        "queue    0, 1,024 packets long; full: drop; without a listener: drop",
        "kernel   nfqueue for packets at output",
        "rules",
        "total    0 rules: 0 native, 0 with Python",
    ]


def test_json_is_the_document(qfilter: Command, path: str) -> None:
    done = qfilter("explain", path, "--plan", "--format", "json").json
    assert (done["version"], done["fields"]) == (2, list(FIELDS))
    assert done["addresses"] == [{"v4": "c0000200c00002ff", "v6": ""}]
    assert [(rule["id"], rule["end"], rule["place"]) for rule in done["rules"]] == [
        ("dns", 3, "native"),
        ("tunnel", 2, "python"),
        ("odd", 3, "python"),
        ("web", 4, "native"),
    ]
    fields = list(FIELDS)
    assert done["rules"][3]["match"] == [
        "all",
        [
            ["field", fields.index("saddr"), 0, ["addresses", 0]],
            ["field", fields.index("payload"), 0, ["starts_with", b"GET ".hex()]],
        ],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected one of --packet, --scapy, --hex and --capture, or --plan"),
        (("--plan", "--hex", "45"), "expected one of --packet, --scapy, --hex and --capture, or --plan"),
    ],
)
def test_a_packet_or_the_plan(qfilter: Command, path: str, words: tuple[str, ...], said: str) -> None:
    done = qfilter("explain", path, *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_what_no_kernel_can_do_is_said_as_when_it_runs(qfilter: Command, path: str) -> None:
    Path(path).write_text("version: 1\ndefault: {prerouting: reject}\n")
    done = qfilter("explain", path, "--plan")
    assert (done.code, done.out) == (1, "")
    assert "error: reject port-unreachable at prerouting: the kernel rejects only at input" in done.err

"""`qfilter explain`: the verdict, and what kept the other rules from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import POLICY, Command
from tests.unit.queues.capture_files import SYN, pcap_header, pcap_record

STRANGER = "{saddr: 198.51.100.7, protocol: tcp, dport: 22}"


def test_a_transcript(qfilter: Command, policy: str) -> None:
    done = qfilter("explain", policy, "--packet", "{protocol: udp, sport: 53}", "--iif", "eth0")
    assert (done.code, done.err) == (0, "")
    first, *_ = done.out.split("packet   ")
    assert first.splitlines() == [
        "verdict  reject port-unreachable",
        "reason   rule",
        "by       dns at policy.yaml:10:5",
    ]
    _, rules = done.out.split("\nmatched\n")
    assert rules.splitlines() == [
        "  dns at policy.yaml:10:5",
        "not matched, nearest first",
        "  lo at policy.yaml:4:5",
        "    iifname equals 'lo' (line 4): iifname is 'eth0'",
        "  ssh at policy.yaml:5:5",
        "    protocol tcp (line 6): protocol is udp",
        "    dport 22 (line 6): dport is 49152",
    ]


def test_without_all_only_the_nearest_are_shown(qfilter: Command, policy: str) -> None:
    rules = "".join(f"  - {{id: port-{n}, match: {{dport: {n}}}, verdict: accept}}\n" for n in range(1, 9))
    Path(policy).write_text(f"version: 1\ndefault: {{input: drop}}\nrules:\n{rules}")
    short = qfilter("explain", policy, "--packet", STRANGER)
    assert short.out.endswith("  and 3 more, see --all\n")
    assert "port-6" not in short.out
    assert "port-8" in qfilter("explain", policy, "--packet", STRANGER, "--all").out


@pytest.mark.parametrize(
    "packet",
    [
        ("--packet", "{hook: input, saddr: 198.51.100.7, protocol: tcp, dport: 22}"),
        ("--scapy", "IP(src='198.51.100.7')/TCP(dport=22)"),
        ("--hex", SYN.hex(" ").replace("c0 00 02 01", "c6 33 64 08")),
        ("--capture", "attack.pcap", "--number", "2"),
    ],
)
def test_the_forms_of_a_packet(qfilter: Command, policy: str, packet: tuple[str, ...]) -> None:
    other = SYN.replace(bytes([192, 0, 2, 1]), bytes([198, 51, 100, 8]))
    Path("attack.pcap").write_bytes(pcap_header(101) + pcap_record(SYN) + pcap_record(other))
    done = qfilter("explain", policy, *packet)
    assert done.code == 0
    assert "by       ssh-slow at policy.yaml:9:9" in done.out


def test_the_hook_of_a_description_wins(qfilter: Command, policy: str) -> None:
    done = qfilter("explain", policy, "--packet", "{hook: output, protocol: udp}", "--hook", "input")
    assert "by       default of output at policy.yaml:2:32" in done.out


def test_a_hook_that_is_not_in_force(qfilter: Command, policy: str) -> None:
    done = qfilter("explain", policy, "--packet", "{hook: forward, protocol: udp}")
    assert (done.code, done.out) == (2, "")
    assert (
        "hook 'forward' has no default in this policy, and its packets never come: expected input, output" in done.err
    )


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (("--packet", "{dprot: 22}"), "<packet>:1:2: error: 'dprot' is not a field that a packet can be built from"),
        (
            ("--packet", "{protocol: tcp, dport: 70000}"),
            "<packet>:1:17: error: dport 70000: expected 0 to 65535 or a name for it\n    {protocol: tcp, dport: 7",
        ),
        (("--packet", "{icmp.type: 8, dport: 3}"), "<packet>:1:2: error: icmp.type and dport: expected fields of one"),
        (("--packet", "{saddr: foo}"), "<packet>:1:2: error: saddr 'foo': expected an IPv4 or IPv6 address"),
        (("--scapy", "__import__('os')"), "error: packet"),
        (("--hex", "zz"), "error: packet 'zz': expected bytes in hex"),
        (("--capture", "nowhere.pcap"), "error: nowhere.pcap: "),
        (("--capture", "one.pcap", "--number", "2"), "error: one.pcap: packet 2: expected at most 1"),
        (("--capture", "arp.pcap"), "error: arp.pcap: packet 1: a frame without IPv4 or IPv6: expected a packet"),
    ],
)
def test_what_is_no_packet(qfilter: Command, policy: str, packet: tuple[str, ...], said: str) -> None:
    Path("one.pcap").write_bytes(pcap_header(101) + pcap_record(SYN))
    Path("arp.pcap").write_bytes(pcap_header(1) + pcap_record(bytes(12) + bytes.fromhex("0806") + bytes(28)))
    done = qfilter("explain", policy, *packet)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(said)


def test_json(qfilter: Command, policy: str) -> None:
    done = qfilter("explain", policy, "--packet", STRANGER, "--format", "json").json
    assert {key: done[key] for key in ("verdict", "reason", "detail", "rule", "at")} == {
        "verdict": "accept",
        "reason": "rule",
        "detail": "",
        "rule": "ssh-slow",
        "at": "policy.yaml:9:9",
    }
    assert done["packet"]["saddr"] == "198.51.100.7"
    assert [(step["rule"], step["matched"]) for step in done["rules"]] == [
        ("lo", False),
        ("ssh", True),
        ("ssh-known", False),
        ("ssh-slow", True),
    ]
    assert done["rules"][2]["failed"] == [
        {
            "condition": "saddr 192.0.2.0/24",
            "at": "policy.yaml:8:33",
            "found": "saddr is 198.51.100.7",
            "unknown": None,
        }
    ]


def test_what_is_unknown_says_why(qfilter: Command, policy: str) -> None:
    later = "{protocol: tcp, fragment: later}"
    text = qfilter("explain", policy, "--packet", later)
    assert text.out.startswith("verdict  drop\nreason   fragment: ")
    assert "  ssh at policy.yaml:5:5 unknown: fragment" in text.out
    steps = qfilter("explain", policy, "--packet", later, "--format", "json").json["rules"]
    assert steps[-1]["matched"] is None
    assert [part["unknown"] for part in steps[-1]["failed"]] == ["fragment"]


def test_the_fields_a_few_a_line_and_the_clock_only_where_a_rule_looks(qfilter: Command, policy: str) -> None:
    plain = qfilter("explain", policy, "--packet", STRANGER).out
    assert all(len(line) <= 110 for line in plain.splitlines())
    assert "\npacket   hook=input family=ipv4 " in plain
    assert "\n         dscp=cs0 ecn=not-ect " in plain
    assert "hour=" not in plain
    Path(policy).write_text(POLICY.replace("{iifname: lo}", "{iifname: lo, hour: {lt: 8}}"))
    seen = qfilter("explain", policy, "--packet", STRANGER).out
    assert "hour=" in seen
    assert "weekday=" not in seen
    broken = qfilter("explain", policy, "--hex", "aa").out
    assert "packet " not in broken


def test_what_is_otherwise_in_force(qfilter: Command, policy: str) -> None:
    def said(text: str) -> list[str]:
        Path(policy).write_text(text)
        out = qfilter("explain", policy, "--packet", STRANGER).out
        return [line for line in out.splitlines() if line.startswith(("judged", "exempt"))]

    assert said("version: 1\ndefault: {input: drop}\n") == []
    assert said(POLICY) == ["judged   as the first packet: full limits"]
    assert said(STATEFUL) == [
        "judged   as the first packet: nothing added to dynamic sets, no flows",
        "exempt   packets of lo and established connections never come here (queue.exempt)",
    ]
    assert said(STATEFUL.replace("[$bad", "[192.0.2.3").replace("element: saddr}", "element: daddr}")) == [
        "judged   as the first packet: no flows",
        "exempt   packets of lo and established connections never come here (queue.exempt)",
    ]


STATEFUL = """version: 1
default: {input: drop}
queue: {exempt: [lo, established]}
sets: {bad: {type: address, dynamic: true}}
rules:
  - {id: known, match: {protocol: tcp, saddr: {not: [$bad, 192.0.2.1]}}, verdict: accept, scope: flow}
  - {id: learns, add: {set: bad, element: saddr}, limit: {rate: 1/second}}
"""

"""Packets in words: the `tests:` of a policy, files of tests, and a packet on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.errors import PolicyError, Position
from qfilter.policy.load import load_packet, load_tests, loads

POLICY = loads("""version: 1
default: {input: drop}
rules:
  - id: web
    rules: [{id: web-tls, match: {protocol: tcp, dport: 443}, verdict: accept}]
""")
HEX = "version: 1\ndefault: {input: drop}\ntests: [{packet: {hook: input, payload: %s}, expect: drop}]\n"


def said(caught: pytest.ExceptionInfo[PolicyError]) -> list[str]:
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_a_file_of_tests(tmp_path: Path) -> None:
    path = tmp_path / "tests.yaml"
    path.write_text("tests:\n  - {packet: {hook: input, protocol: tcp, dport: 443}, expect: accept, by: web-tls}\n")
    (case,) = load_tests(str(path), POLICY)
    assert (str(case.expect), case.by, case.at) == ("accept", "web-tls", Position(str(path), 2, 5))
    assert case.packet == {"hook": "input", "protocol": "tcp", "dport": 443}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tests:\n  - {packet: {hook: input}, expect: drop, by: ssh}\n", "2:47: error: 'ssh' decides nothing"),
        ("tests:\n  - {packet: {hook: output}, expect: drop}\n", "2:5: error: hook 'output' has no default"),
        ("tests:\n  - {packet: {dport: 22}, expect: drop}\n", "2:14: error: a packet needs a hook"),
        ("tests:\n  - {packet: {hook: input}}\n", "2:5: error: key 'expect' is missing here"),
        ("tests: []\nrules: []\n", "2:1: error: unknown key 'rules': expected version, tests"),
        ("version: 1\n", "1:1: error: key 'tests' is missing here"),
        ("", "1:1: error: "),
    ],
)
def test_a_file_that_is_not_one_of_tests(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "tests.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_tests(str(path), POLICY)
    assert [line.startswith(f"{path}:{problem}") for line in said(caught)] == [True], said(caught)


def test_a_file_of_tests_that_is_not_there() -> None:
    with pytest.raises(PolicyError) as caught:
        load_tests("/nowhere/tests.yaml", POLICY)
    assert said(caught) == [
        "/nowhere/tests.yaml:1:1: error: cannot read '/nowhere/tests.yaml': no such file or directory"
    ]


def test_a_packet_on_the_command_line_may_leave_the_hook_out() -> None:
    assert load_packet("{saddr: 192.0.2.1, tcp.flags: [syn, ack]}").fields == {
        "saddr": "192.0.2.1",
        "tcp.flags": ["syn", "ack"],
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{dprot: 22}", "<packet>:1:2: error: 'dprot' is not a field that a packet can be built from"),
        ("22", "<packet>:1:1: error: the number '22': expected a packet by its fields"),
        ("{hook: inptu}", "<packet>:1:8: error: hook 'inptu': expected one of"),
        ("{saddr: $lan}", "<packet>:1:9: error: '$lan' is not defined"),
        ("{dport: {hex: 00}}", "<packet>:1:9: error: a mapping: expected a value"),
        ("\udc80", "<packet>:1:1: error: "),
    ],
)
def test_what_is_no_packet(text: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_packet(text)
    assert said(caught)[0].startswith(problem), said(caught)


@pytest.mark.parametrize("digits", ["de ad be ef", "DEADBEEF", "0xdeadbeef", "de:ad:be:ef"])
def test_a_payload_in_hex(digits: str) -> None:
    (case,) = loads(HEX % f"{{hex: '{digits}'}}").tests
    assert case.packet["payload"] == {"hex": "deadbeef"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{hex: dead, text: b}", "a mapping: expected a text, or {hex: 'de ad'}"),
        ("{contains: GET}", "a mapping: expected a text, or {hex: 'de ad'}"),
        ("{hex: dea}", "hex 'dea': expected 1 to 1024 bytes"),
    ],
)
def test_a_payload_that_is_neither_text_nor_hex(value: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        loads(HEX % value)
    assert problem in said(caught)[0]


def test_where_settings_stand() -> None:
    policy = loads("""version: 1
default: {input: drop}
queue:
  number: 3
  length: 99
on_failure: {queue_full: accept}
""")
    assert policy.settings == {
        "queue.number": Position("<policy>", 4, 11),
        "queue.length": Position("<policy>", 5, 11),
        "on_failure.queue_full": Position("<policy>", 6, 26),
    }

"""`qfilter check`: what is said, and to whom."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import POLICY, Command


def test_a_policy_that_is_in_order(qfilter: Command, policy: str) -> None:
    done = qfilter("check", policy)
    assert (done.code, done.err) == (0, "")
    assert done.out == "policy.yaml: ok: 5 rules on input, output, 0 sets, 2 tests pass\n"


def test_one_and_none_are_said_as_such(qfilter: Command, policy: str) -> None:
    text = "version: 1\ndefault: {input: drop}\nrules:\n  - {id: lo, match: {iifname: lo}, verdict: accept}\n"
    Path(policy).write_text(text)
    assert qfilter("check", policy).out == "policy.yaml: ok: 1 rule on input, 0 sets, no tests\n"
    Path(policy).write_text(f"{text}tests: [{{packet: {{hook: input, iifname: lo}}, expect: accept, by: lo}}]\n")
    assert qfilter("check", policy).out == "policy.yaml: ok: 1 rule on input, 0 sets, 1 test passes\n"


def test_every_mistake_with_its_line_and_a_caret(qfilter: Command, policy: str) -> None:
    Path(policy).write_text(POLICY.replace("dport", "dprot").replace("saddr: 192.0.2.0/24", "saddr: 192.0.2.1/24"))
    done = qfilter("check", policy)
    assert (done.code, done.out) == (1, "")
    assert "policy.yaml:6:28: error: unknown field 'dprot'" in done.err
    assert "did you mean 'dport'?" in done.err
    assert "policy.yaml:8:40: error: " in done.err
    assert "    match: {protocol: tcp, dprot: 22}\n" in done.err
    assert "^^^^^" in done.err


def test_a_policy_that_is_not_there(qfilter: Command) -> None:
    done = qfilter("check", "nowhere.yaml")
    assert done.code == 1
    assert "nowhere.yaml:1:1: error: cannot read 'nowhere.yaml': no such file or directory" in done.err


def test_a_test_that_fails_is_a_mistake(qfilter: Command, policy: str) -> None:
    Path(policy).write_text(POLICY.replace("by: dns", "by: lo"))
    done = qfilter("check", policy)
    assert (done.code, done.out) == (1, "")
    assert (
        "policy.yaml:13:5: error: expected reject port-unreachable by lo, got reject port-unreachable by dns"
        in done.err
    )


def test_a_dead_rule_is_a_mistake(qfilter: Command, policy: str) -> None:
    dead = "  - {id: again, match: {iifname: lo, protocol: tcp}, verdict: drop}\n"
    Path(policy).write_text(POLICY.replace("tests:", f"{dead}tests:"))
    done = qfilter("check", policy)
    assert (done.code, done.out) == (1, "")
    assert "error: rule 'again' is never reached: 'lo' at policy.yaml:4:5 decides all its packets" in done.err


def test_a_warning_is_no_mistake(qfilter: Command, policy: str) -> None:
    Path(policy).write_text(POLICY.replace("tests:", "  - {id: later, hook: forward, verdict: drop}\ntests:"))
    done = qfilter("check", policy)
    assert done.code == 0
    assert "warning: rule 'later' is never reached" in done.err
    assert "ok: 6 rules" in done.out


def test_json_for_editors(qfilter: Command, policy: str) -> None:
    assert qfilter("check", policy, "--format", "json").json == {
        "policy": "policy.yaml",
        "ok": True,
        "diagnostics": [],
    }
    Path(policy).write_text(POLICY.replace("verdict: reject", "verdict: rejcet"))
    done = qfilter("check", policy, "--format", "json")
    assert (done.code, done.err, done.json["ok"]) == (1, "", False)
    (mistake,) = done.json["diagnostics"]
    assert (mistake["kind"], mistake["suggestion"]) == ("unknown-name", "reject")

"""`qfilter test`: results, coverage, JUnit."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tests.unit.cli.conftest import POLICY, Command

MORE = """tests:
  - {packet: {hook: input, iifname: lo}, expect: accept, by: lo}
  - {packet: {hook: output, protocol: udp, dport: 53}, expect: drop}
"""


def test_the_policys_own_tests(qfilter: Command, policy: str) -> None:
    done = qfilter("test", policy)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "2 passed, 0 failed",
        "3 of 5 rules tested (60 %)",
        "  no test matches lo at policy.yaml:4:5",
        "  no test matches ssh-slow at policy.yaml:9:9",
    ]


def test_files_of_tests_are_run_too(qfilter: Command, policy: str) -> None:
    Path("more.yaml").write_text(MORE)
    done = qfilter("test", policy, "more.yaml", "--junit", "report.xml")
    assert done.code == 1
    assert "more.yaml:3:5: error: expected drop, got accept by default at policy.yaml:2:32" in done.err
    assert done.out.startswith("3 passed, 1 failed\n")
    suite = ElementTree.parse("report.xml").getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("policy.yaml", "4", "1")
    cases = [(case.get("file"), case.get("line"), case.find("failure") is None) for case in suite]
    assert cases == [
        ("policy.yaml", "12", True),
        ("policy.yaml", "13", True),
        ("more.yaml", "2", True),
        ("more.yaml", "3", False),
    ]


def test_a_report_that_cannot_be_written(qfilter: Command, policy: str) -> None:
    done = qfilter("test", policy, "--junit", "nowhere/report.xml")
    assert (done.code, done.err) == (1, "error: nowhere/report.xml: No such file or directory\n")


def test_too_few_rules_tested(qfilter: Command, policy: str) -> None:
    assert qfilter("test", policy, "--cover", "50").code == 0
    assert qfilter("test", policy, "--cover", "90").code == 1


def test_a_policy_without_rules_is_all_tested(qfilter: Command, policy: str) -> None:
    Path(policy).write_text("version: 1\ndefault: {input: drop}\n")
    done = qfilter("test", policy, "--cover", "100")
    assert (done.code, done.out) == (0, "0 passed, 0 failed\n0 of 0 rules tested (100 %)\n")


def test_json(qfilter: Command, policy: str) -> None:
    Path(policy).write_text(POLICY.replace("expect: accept", "expect: drop"))
    done = qfilter("test", policy, "--format", "json")
    assert (done.code, done.err) == (1, "")
    assert (done.json["passed"], done.json["failed"]) == (1, 1)
    failed, passed = done.json["tests"]
    assert failed == {
        "at": "policy.yaml:12:5",
        "passed": False,
        "verdict": "accept",
        "by": "ssh-known",
        "problem": "expected drop by ssh-known, got accept by ssh-known at policy.yaml:8:9",
    }
    assert passed == {
        "at": "policy.yaml:13:5",
        "passed": True,
        "verdict": "reject port-unreachable",
        "by": "dns",
        "problem": None,
    }
    assert {"rule": "lo", "at": "policy.yaml:4:5"} in done.json["untested"]

"""`qfilter test`: run the tests in a policy, without root."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import click

from qfilter.cli.engines import engine_option
from qfilter.cli.output import console, style_on, write_diagnostics, write_json
from qfilter.daemon import EngineName, engine_maker
from qfilter.engine.selftest import Result, TestOutcome, decider, run_tests
from qfilter.engine.tallies import all_rules
from qfilter.policy.load import load, load_tests


@click.command("test", epilog="Example: qfilter test rules/demo.yaml --junit report.xml")
@click.argument("policy", type=click.Path(readable=False))
@click.argument("files", type=click.Path(readable=False), nargs=-1)
@click.option("--junit", type=click.Path(dir_okay=False), help="Write a JUnit XML report to this file.")
@click.option("--cover", type=click.IntRange(0, 100), default=0, help="Fail below this percentage of tested rules.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@engine_option
@click.pass_context
def command(
    context: click.Context,
    policy: str,
    files: tuple[str, ...],
    junit: str | None,
    cover: int,
    form: str,
    engine: EngineName,
) -> None:
    """Run the tests inside POLICY and those of FILES (YAML with a `tests:` list), and tell which rules none matched."""
    loaded = load(policy)
    cases = (*loaded.tests, *(case for file in files for case in load_tests(file, loaded)))
    outcome = run_tests(loaded, cases, make=engine_maker(engine, loaded))
    rules = sum(1 for _ in all_rules(loaded.rules))
    covered = 100 * len(outcome.matched) // rules if rules else 100
    if junit:
        Path(junit).write_bytes(_junit(policy, outcome))
    if form == "json":
        write_json(_as_dict(outcome, covered))
    else:
        _tell(outcome, rules, covered)
    context.exit(1 if outcome.failures or covered < cover else 0)


def _tell(outcome: TestOutcome, rules: int, covered: int) -> None:
    write_diagnostics(result.diagnostic() for result in outcome.failures)
    style = style_on(console())
    failed = len(outcome.failures)
    words = f"{len(outcome.results) - failed} passed, {failed} failed"
    click.echo(style(words, "failure" if failed else "accept"))
    click.echo(f"{len(outcome.matched)} of {rules} rules tested ({covered} %)")
    for rule in outcome.untested:
        click.echo(style(f"  no test matches {rule.id} at {rule.at}", "dim"))


def _verdict(result: Result) -> str | None:
    return None if result.verdict is None else str(result.verdict.decision)


def _as_dict(outcome: TestOutcome, covered: int) -> dict[str, object]:
    return {
        "passed": len(outcome.results) - len(outcome.failures),
        "failed": len(outcome.failures),
        "coverage": covered,
        "untested": [{"rule": rule.id, "at": str(rule.at)} for rule in outcome.untested],
        "tests": [
            {
                "at": str(result.case.at),
                "passed": result.passed,
                "verdict": _verdict(result),
                "by": None if result.verdict is None else decider(result.verdict),
                "problem": result.problem or None,
            }
            for result in outcome.results
        ],
    }


def _junit(policy: str, outcome: TestOutcome) -> bytes:
    suite = ElementTree.Element(
        "testsuite", name=policy, tests=str(len(outcome.results)), failures=str(len(outcome.failures)), errors="0"
    )
    for result in outcome.results:
        at = result.case.at
        case = ElementTree.SubElement(
            suite, "testcase", classname=at.file, name=f"line {at.line}", file=at.file, line=str(at.line)
        )
        if not result.passed:
            ElementTree.SubElement(case, "failure", message=result.problem).text = f"{at}: {result.problem}"
    document: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document

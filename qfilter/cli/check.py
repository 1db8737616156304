"""`qfilter check`: does the policy load, and what is odd about it."""

from __future__ import annotations

import click

from qfilter.cli.output import diagnostics_as_json, write_diagnostics, write_json
from qfilter.engine.selftest import run_tests
from qfilter.engine.tallies import all_rules
from qfilter.errors import Diagnostic, PolicyError
from qfilter.model.policy import Policy
from qfilter.policy.load import load


@click.command("check", epilog="Example: qfilter check rules/demo.yaml")
@click.argument("policy", type=click.Path(readable=False))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="JSON for editors and CI.")
@click.pass_context
def command(context: click.Context, policy: str, form: str) -> None:
    """Read POLICY, everything it includes, and its tests; report every mistake at once."""
    loaded, diagnostics = _look(policy)
    errors = [each for each in diagnostics if each.severity == "error"]
    if form == "json":
        write_json({"policy": policy, "ok": not errors, "diagnostics": diagnostics_as_json(diagnostics)})
    else:
        write_diagnostics(diagnostics)
        if loaded is not None and not errors:
            click.echo(_summary(loaded))
    context.exit(1 if errors else 0)


def _look(path: str) -> tuple[Policy | None, tuple[Diagnostic, ...]]:
    try:
        policy = load(path)
    except PolicyError as error:
        return None, error.diagnostics
    failures = tuple(result.diagnostic() for result in run_tests(policy).failures)
    return policy, (*policy.warnings, *failures)


def _summary(policy: Policy) -> str:
    rules, tests = sum(1 for _ in all_rules(policy.rules)), len(policy.tests)
    proven = f"{_count(tests, 'test')} {'passes' if tests == 1 else 'pass'}" if tests else "no tests"
    return (
        f"{policy.path}: ok: {_count(rules, 'rule')} on {', '.join(policy.defaults)}, "
        f"{_count(len(policy.sets), 'set')}, {proven}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

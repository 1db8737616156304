"""`qfilter schema`: the JSON Schema of policy files, for editors."""

from __future__ import annotations

import click

from qfilter.cli.output import write_json
from qfilter.policy.schema import json_schema


@click.command("schema", epilog="Example: qfilter schema > policy.schema.json")
@click.option("--included", is_flag=True, help="The schema of files that a policy includes.")
def command(included: bool) -> None:
    """Print the JSON Schema of policy files."""
    write_json(json_schema(included=included))

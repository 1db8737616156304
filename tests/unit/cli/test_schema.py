"""`qfilter schema`: what editors check policies, and the files that these include, with."""

from __future__ import annotations

import pytest
import yaml
from jsonschema import Draft202012Validator

from qfilter.policy.schema import json_schema
from tests.lab.process import ROOT
from tests.unit.cli.conftest import Command


@pytest.mark.parametrize(("words", "included"), [((), False), (("--included",), True)])
def test_it_prints_the_schema(qfilter: Command, words: tuple[str, ...], included: bool) -> None:
    done = qfilter("schema", *words)
    assert (done.code, done.err, done.json) == (0, "", json_schema(included=included))


def test_a_library_fits_one_and_a_policy_the_other(qfilter: Command) -> None:
    def fits(file: str, *words: str) -> bool:
        schema = qfilter("schema", *words).json
        return Draft202012Validator(schema).is_valid(yaml.safe_load((ROOT / "rules" / file).read_text()))

    library, policy = "lib/hostile.yaml", "demo.yaml"
    assert (fits(library, "--included"), fits(library)) == (True, False)
    assert (fits(policy), fits(policy, "--included")) == (True, False)

"""The JSON Schema says what the loader says, as far as a schema can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from qfilter.errors import PolicyError
from qfilter.fields import FIELDS
from qfilter.model.hook import Hook
from qfilter.model.verdict import CAUSES
from qfilter.policy.actions import ACTIONS
from qfilter.policy.document import DefaultsDocument, FailureDocument, RuleDocument
from qfilter.policy.load import loads
from qfilter.policy.schema import json_schema

ROOT = Path(__file__).parents[3]
HEAD = "version: 1\ndefault: {input: drop}\n"


@pytest.fixture(scope="module")
def policy() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


@pytest.mark.parametrize("included", [False, True])
def test_it_is_a_schema(included: bool) -> None:
    schema = json_schema(included=included)
    Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    assert "x-shape" not in text
    missing = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]} - schema["$defs"].keys()
    assert not missing


def test_it_has_every_field() -> None:
    properties: dict[str, Any] = json_schema()["$defs"]["match"]["properties"]
    assert set(FIELDS) <= set(properties)


def test_the_models_have_every_hook_cause_and_action() -> None:
    assert list(DefaultsDocument.keys()) == list(Hook)
    assert list(FailureDocument.keys()) == list(CAUSES)
    assert set(ACTIONS) <= set(RuleDocument.keys())


@pytest.mark.parametrize("path", sorted(ROOT.glob("rules/**/*.yaml")), ids=lambda path: path.name)
def test_shipped_policies(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    schema = json_schema(included="default" not in document)
    assert [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)] == []


BOTH = [
    # what the schema and the loader take
    ("", True),
    ("define: {a: [1, {x: 2}]}\nrules: [{match: {dport: $a}, verdict: drop}]", None),
    ("rules: [{match: {dport: [22, 80-90, {ge: 1000}], saddr: {not: 192.0.2.0/24}}, verdict: accept}]", True),
    ("rules: [{match: {payload: {starts_with: GET, length: 0-64}, tcp.flags: syn}, verdict: reject tcp-reset}]", True),
    ("rules: [{match: {any: [{inner.inner.saddr: 192.0.2.1}, {not: {scapy.DNSQR.qname: x}}]}, verdict: drop}]", True),
    ("rules: [{match: {bytes: {base: payload, offset: 0, value: 'ff'}}, verdict: {reject: no-route}}]", True),
    ("rules: [{hook: input, limit: {rate: 10/second, burst: 20, per: [saddr]}, log: {prefix: x}, count: c}]", True),
    (
        "rules: [{hook: [input], mark: {set: 1, mask: 1}, capture: {file: a.pcapng, max: 1 MiB}, verdict: {queue: 3}}]",
        True,
    ),
    ("queue: {number: 0-3, exempt: lo, socket_buffer: 8 MiB, length: 5}\nallow: tcp-flags", True),
    ("on_failure: {error: accept}\ntests: [{packet: {hook: input, dport: 22}, expect: drop, by: default}]", True),
    ("rules: [{verdict: drop, scope: flow, comment: why}]", True),
    # what neither takes
    ("rulez: []", False),
    ("on_failure: {eror: drop}", False),
    ("on_failure: {error: reject}", False),
    ("allow: [empty]", False),
    ("queue: {length: 70000}", False),
    ("queue: {cpu_fanout: 1}", False),
    ("rules: [{match: {dprt: 22}, verdict: drop}]", False),
    ("rules: [{match: {dport: {contains: x}}, verdict: drop}]", False),
    ("rules: [{match: {dport: []}, verdict: drop}]", False),
    ("rules: [{match: {inner.iifname: lo}, verdict: drop}]", False),
    ("rules: [{match: {inner.inner.inner.inner.inner.ttl: 1}, verdict: drop}]", False),
    ("rules: [{verdict: allow}]", False),
    ("rules: [{verdict: {reject: no-rute}}]", False),
    ("rules: [{verdict: {queue: 70000}}]", False),
    ("rules: [{hook: in, verdict: drop}]", False),
    ("rules: [{id: a b, verdict: drop}]", False),
    ("rules: [{limit: {burst: 1}, verdict: drop}]", False),
    ("rules: [{add: {set: s}}]", False),
    ("rules: [{log: 5}]", False),
    ("rules: {}", False),
    ("tests: [{packet: {dport: 22}, expect: drop}]", False),
    ("tests: [{packet: {hook: input}}]", False),
    ("sets: {s: {type: ports, elements: []}}", False),
    ("sets: {s: {elements: []}}", False),
    ("sets: {'a b': {type: port, elements: []}}", False),
]


@pytest.mark.parametrize(("text", "good"), BOTH)
def test_schema_and_loader_agree(text: str, good: bool | None, policy: Draft202012Validator) -> None:
    """None: the schema takes it, the loader knows better."""
    try:
        loads(HEAD + text)
        loaded = True
    except PolicyError:
        loaded = False
    assert policy.is_valid(yaml.safe_load(HEAD + text)) is (good is not False)
    assert loaded is (good is True)

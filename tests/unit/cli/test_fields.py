"""`qfilter fields` and `qfilter schema`: what tools and pages are made from."""

from __future__ import annotations

import jsonschema
import yaml

from qfilter.fields import FIELDS
from tests.unit.cli.conftest import POLICY, Command


def test_every_field_is_listed(qfilter: Command) -> None:
    done = qfilter("fields")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if line[:1].strip()][1:] == list(FIELDS)


def test_words_keep_what_is_about_them(qfilter: Command) -> None:
    rows = qfilter("fields", "window", "hop", "--format", "json").json
    assert [row["name"] for row in rows] == ["ttl", "tcp.window"]
    assert rows[0]["unit"] == "hops"
    assert rows[1] == {
        "name": "tcp.window",
        "type": "number",
        "many": False,
        "layer": "transport",
        "low": 0,
        "high": 65_535,
        "unit": "",
        "names": {},
        "families": ["ipv4", "ipv6"],
        "protocols": [6],
        "hooks": ["prerouting", "input", "forward", "output", "postrouting"],
        "doc": FIELDS["tcp.window"].doc,
        "source": "RFC 9293",
    }


def test_markdown(qfilter: Command) -> None:
    lines = qfilter("fields", "tcp.mss", "--format", "markdown").out.splitlines()
    row = FIELDS["tcp.mss"]
    assert f"| `tcp.mss` | number | 0-65535 bytes | tcp | {row.doc} | {row.source} |" in lines
    assert "## transport" in lines


def test_the_schema_takes_a_policy(qfilter: Command) -> None:
    schema = qfilter("schema").json
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(POLICY), schema)

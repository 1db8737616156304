"""Every kind of mistake: a policy that makes it, the place that is reported, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.engine.selftest import run_tests
from qfilter.errors import PolicyError
from qfilter.policy.kinds import KINDS
from qfilter.policy.load import load
from qfilter.policy.sources import MAX_BYTES

HEAD = "version: 1\ndefault: {input: drop}\n"
"""Lines 1 and 2 of most policies here."""

Row = tuple[str, str | bytes, str, str]
ROWS: list[Row] = [
    # the file
    ("unreadable", b"", "policy.yaml:1:1", "is not a file"),
    (
        "writable",
        HEAD,
        "policy.yaml:1:1",
        "'policy.yaml' can be written by others (mode 0646): expected at most 0644",
    ),
    ("encoding", HEAD.encode() + b"rules: [\xff]", "policy.yaml:3:9", "byte 0xff is not UTF-8"),
    ("encoding", b"\xff\xfev\x00", "policy.yaml:1:1", "the file is UTF-16: expected UTF-8"),
    ("encoding", b"\xef\xbb\xbfversion: 1", "policy.yaml:1:1", "begins with a byte order mark: expected UTF-8 without"),
    ("too-large", b"#" * (MAX_BYTES + 1), "policy.yaml:1:1", "the file has more than 16,777,216 bytes"),
    ("yaml-syntax", "a: b: c", "policy.yaml:1:5", "mapping values are not allowed in this context"),
    ("yaml-syntax", HEAD + "\trules: []", "policy.yaml:3:1", "a tab cannot start a value: indent with spaces"),
    ("yaml-syntax", HEAD + "allow: @x", "policy.yaml:3:8", "'@' cannot start a plain value: quote it"),
    ("control-character", HEAD + "# a\u2028rules: []", "policy.yaml:3:4", "character U+2028 cannot stand in a policy"),
    ("control-character", HEAD + "# a\x1b[2J", "policy.yaml:3:4", "character U+001B cannot stand in a policy"),
    ("empty", "# nothing\n", "policy.yaml:1:1", "the file is empty: expected a mapping that begins with 'version: 1'"),
    ("several-documents", HEAD + "---\n" + HEAD, "policy.yaml:3:1", "a second document begins here"),
    ("too-deep", "[" * 10_000, "policy.yaml:1:65", "more than 64 lists and mappings inside each other"),
    (
        "alias-bomb",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{n}: &{n} [{','.join(['*' + p] * 10)}]\n" for p, n in zip("abcde", "bcdef", strict=True)),
        "policy.yaml:5:29",
        "aliases add more than 100,000 nodes",
    ),
    ("duplicate-key", HEAD + "default: {}", "policy.yaml:3:1", "key 'default' already stands at 2:1"),
    (
        "duplicate-key",
        HEAD
        + "define: {a: lo}\nsets: {a: {type: port, elements: [22]}}\nrules: [{match: {iifname: $a}, verdict: drop}]",
        "policy.yaml:4:8",
        "name 'a' already stands at policy.yaml:3:10",
    ),
    ("key-type", HEAD + "22: x", "policy.yaml:3:1", "key '22' is not text: write '22' in quotes to mean it"),
    ("key-type", HEAD + "[a]: x", "policy.yaml:3:1", "a list or mapping cannot be a key: expected text"),
    ("merge-key", HEAD + "queue: {<<: {}}", "policy.yaml:3:9", "merge key '<<' is not part of YAML 1.2"),
    (
        "tag",
        HEAD + "allow: !!python/object/apply:os.system [tcp-flags]",
        "policy.yaml:3:8",
        "tag 'tag:yaml.org,2002:python/object/apply:os.system': tags are not taken",
    ),
    (
        "yaml-trap",
        HEAD + "queue: {cpu_fanout: no}",
        "policy.yaml:3:21",
        "plain 'no': YAML 1.1 reads it as true or false",
    ),
    (
        "yaml-trap",
        HEAD + "queue: {number: 22:22}",
        "policy.yaml:3:17",
        "plain '22:22': YAML 1.1 reads it as a number in",
    ),
    ("yaml-trap", HEAD + "queue: {number: 010}", "policy.yaml:3:17", "plain '010': YAML 1.1 reads it as octal; write"),
    ("yaml-trap", HEAD + "queue: {length: 1_000}", "policy.yaml:3:17", "plain '1_000': YAML 1.1 reads it as a number"),
    ("yaml-trap", HEAD + "on: {}", "policy.yaml:3:1", "plain 'on': YAML 1.1 reads it as true or false"),
    ("include", HEAD + "include: [/etc/passwd]", "policy.yaml:3:11", "'/etc/passwd' leaves the policy's folder"),
    # the structure
    ("unknown-key", HEAD + "rulez: []", "policy.yaml:3:1", "unknown key 'rulez': expected version, include, define,"),
    ("missing-key", "version: 1", "policy.yaml:1:1", "key 'default' is missing here"),
    ("missing-key", HEAD + "rules: [{id: a}]", "policy.yaml:3:9", "a rule that does nothing: expected verdict, rules,"),
    ("wrong-type", HEAD + "rules: 5", "policy.yaml:3:8", "the number '5': expected a list"),
    ("wrong-type", HEAD + "queue: {length: many}", "policy.yaml:3:17", "'many': expected a whole number"),
    ("version", "version: 2\ndefault: {input: drop}", "policy.yaml:1:10", "the number '2': expected 1"),
    (
        "duplicate-id",
        HEAD + "rules:\n- {id: a, match: {ttl: 1}, verdict: drop}\n- {id: a, verdict: drop}",
        "policy.yaml:5:8",
        "id 'a' already stands at policy.yaml:4:8",
    ),
    # references
    (
        "undefined",
        HEAD + "rules: [{match: {saddr: $lan}, verdict: drop}]",
        "policy.yaml:3:25",
        "'$lan' is not defined: expected a name of define: or sets:",
    ),
    (
        "undefined",
        HEAD + "tests: [{packet: {hook: input}, expect: drop, by: ssh}]",
        "policy.yaml:3:51",
        "'ssh' decides nothing: expected a rule's id, default or a failure cause",
    ),
    ("unused", HEAD + "define: {lan: 192.0.2.0/24}", "policy.yaml:3:10", "nothing refers to '$lan': expected a use"),
    ("unused", HEAD + "sets: {s: {type: port, elements: [1]}}", "policy.yaml:3:8", "nothing refers to '$s'"),
    ("cyclic", HEAD + "define: {a: [$b], b: $a}", "policy.yaml:3:14", "'$a' refers to itself: '$a' -> '$b' -> '$a'"),
    ("cyclic", HEAD + "allow: &a [*a]", "policy.yaml:3:12", "alias '*a' stands inside what it refers to"),
    # values
    (
        "unknown-field",
        HEAD + "rules: [{match: {dprt: 22}, verdict: drop}]",
        "policy.yaml:3:18",
        "unknown field 'dprt': expected a field",
    ),
    ("unknown-name", HEAD + "rules: [{verdict: drp}]", "policy.yaml:3:19", "verdict 'drp': expected accept, drop,"),
    ("unknown-name", HEAD + "rules: [{hook: inptu, verdict: drop}]", "policy.yaml:3:16", "'inptu': expected one of"),
    (
        "ambiguous-name",
        HEAD + "rules: [{match: {protocol: ipip}, verdict: drop}]",
        "policy.yaml:3:28",
        "protocol 'ipip': means 94 and 4",
    ),
    (
        "ambiguous-name",
        HEAD + "rules: [{id: error, verdict: drop}]",
        "policy.yaml:3:14",
        "id 'error' means a reason in",
    ),
    (
        "out-of-range",
        HEAD + "rules: [{match: {dport: 70000}, verdict: drop}]",
        "policy.yaml:3:25",
        "port 70000: expected 0 to 65535",
    ),
    ("out-of-range", HEAD + "queue: {length: 70000}", "policy.yaml:3:17", "the number '70000': expected at most 65536"),
    (
        "host-bits",
        HEAD + "rules: [{match: {saddr: 192.0.2.1/24}, verdict: drop}]",
        "policy.yaml:3:25",
        "prefix '192.0.2.1/24': bits are set behind its length",
    ),
    (
        "reversed-range",
        HEAD + "rules: [{match: {dport: 90-80}, verdict: drop}]",
        "policy.yaml:3:25",
        "range '90-80': expected its end above its start",
    ),
    ("bad-value", HEAD + "rules: [{match: {saddr: 192.0.2}, verdict: drop}]", "policy.yaml:3:25", "address '192.0.2':"),
    ("bad-value", HEAD + "queue: {mark_mask: 0x3}", "policy.yaml:3:20", "mark_mask 0x3: expected four adjacent bits"),
    (
        "bad-regex",
        HEAD + "rules: [{match: {payload: {regex: '('}}, verdict: drop}]",
        "policy.yaml:3:35",
        "regex '(':",
    ),
    (
        "wrong-form",
        HEAD + "rules: [{match: {dport: {contains: x}}, verdict: drop}]",
        "policy.yaml:3:26",
        "'contains' is no comparison of dport",
    ),
    # sense
    (
        "contradiction",
        HEAD + "rules: [{match: {protocol: icmp, dport: 22}, verdict: drop}]",
        "policy.yaml:3:34",
        "no packet can meet 'dport' together with `protocol`",
    ),
    (
        "contradiction",
        HEAD + "rules: [{verdict: drop, rules: [{verdict: drop}]}]",
        "policy.yaml:3:25",
        "a rule has a verdict or rules, not both",
    ),
    (
        "contradiction",
        HEAD + "queue: {target: queue, number: 3}",
        "policy.yaml:3:32",
        "target queue is always queue 0: expected number 0",
    ),
    (
        "unreachable",
        HEAD
        + "rules:\n- {id: all, match: {dport: 1-99}, verdict: drop}\n- {id: dead, match: {dport: 22}, verdict: accept}",
        "policy.yaml:5:3",
        "rule 'dead' is never reached: 'all' at policy.yaml:4:3 decides all its packets",
    ),
    (
        "repeat-loop",
        HEAD + "rules: [{mark: 1, verdict: repeat}]",
        "policy.yaml:3:9",
        "rule 'policy.yaml:3' repeats for ever: expected a `mark` action, and a `mark` in its match",
    ),
    (
        "exempt-blind",
        HEAD
        + "queue: {exempt: [established]}\n"
        + "rules: [{id: slow, match: {protocol: udp}, limit: {rate: 1/second, per: saddr}, verdict: accept}]",
        "policy.yaml:4:9",
        "rule 'slow' sees no later packets of a tracked connection",
    ),
    ("plugin", HEAD + "rules: [{match: {python: 'none:f'}, verdict: drop}]", "policy.yaml:3:26", "'none"),
    (
        "test-failed",
        HEAD + "tests: [{packet: {hook: input, saddr: 192.0.2.1}, expect: accept}]",
        "policy.yaml:3:9",
        "expected accept, got drop by default",
    ),
]


@pytest.mark.parametrize(
    ("kind", "text", "place", "message"), ROWS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ROWS)]
)
def test_a_mistake(
    kind: str, text: str | bytes, place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("policy.yaml")
    if text:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    else:
        path.mkdir()
    if kind == "writable":
        path.chmod(0o646)
    try:
        policy = load("policy.yaml")
    except PolicyError as error:
        found = error.diagnostics
    else:
        found = policy.warnings or tuple(result.diagnostic() for result in run_tests(policy).failures)
    said = [(d.kind, str(d.at)) for d in found]
    assert said == [(kind, place)]
    assert message in found[0].message


def test_every_kind_has_an_example() -> None:
    assert {kind for kind, *_ in ROWS} == set(KINDS)

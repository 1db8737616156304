"""The documents are true: examples load and their tests pass, tables are the code's, links and paths lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import pytest

from qfilter.cli import cli
from qfilter.cli.fields import markdown
from qfilter.compiler import compile_policy
from qfilter.engine.build import build
from qfilter.engine.explain import explain
from qfilter.engine.reference import ReferenceEngine
from qfilter.engine.selftest import run_tests
from qfilter.events.record import EventType, verdict_event
from qfilter.fields import FIELDS, ICMP, ICMPV6, TCP, Family
from qfilter.firewall.reject import UNREACHABLE
from qfilter.model.hook import Hook
from qfilter.model.malformed import ALLOWABLE, Malformed
from qfilter.model.packet import Packet
from qfilter.model.plan import Capabilities
from qfilter.model.policy import Backend, Policy, Target
from qfilter.model.verdict import ACCEPT, CAUSES, Reason, Verdict
from qfilter.policy.load import loads
from tests import documents
from tests.documents import FIELDS as FIELDS_PAGE
from tests.documents import GUIDE, README, Block
from tests.lab.process import ROOT

HEAD = {"version": "version: 1\n", "default": "default: {input: drop, forward: drop, output: accept}\n"}
"""What a fragment of a policy is completed by, as far as it has no such key itself."""

EVERYTHING = Capabilities(backends={Backend.IPTABLES_NFT: frozenset(Target)})


@pytest.fixture
def folder() -> Iterator[Path]:
    """With the files that the guide's blocks name. Plugins are refused below /tmp, which others can write."""
    before = os.umask(0o022)
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".qfilter-docs-") as name:
        for block in named():
            path = Path(name, block.name or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        yield Path(name)
    os.umask(before)


def named() -> list[Block]:
    return [
        block for language in ("yaml", "text", "python") for block in documents.blocks(GUIDE, language) if block.name
    ]


def policies() -> list[Block]:
    return [block for file in (README, GUIDE) for block in documents.blocks(file, "yaml") if not block.name]


def completed(text: str) -> str:
    keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    return "".join(line for key, line in HEAD.items() if key not in keys) + text


def load(block: Block, folder: Path) -> Policy:
    return loads(completed(block.text), str(block), folder=folder)


@pytest.mark.parametrize("file", [README, GUIDE], ids=lambda file: file.name)
def test_no_block_escapes_these_tests(file: Path) -> None:
    known = sum(len(documents.blocks(file, language)) for language in ("yaml", "sh", "python", "text", "ini"))
    assert 2 * known == len(re.findall("^ *```", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("block", policies(), ids=str)
def test_a_policy_loads_compiles_and_passes_its_tests(block: Block, folder: Path) -> None:
    policy = load(block, folder)
    assert policy.warnings == ()
    assert [result.diagnostic() for result in run_tests(policy).failures] == []
    assert compile_policy(policy, EVERYTHING).policy is policy


def test_every_named_file_is_used_by_some_policy(folder: Path) -> None:
    texts = "".join((*(block.text for block in policies()), *documents.commands(GUIDE)))
    included = (block for block in policies() if re.search(r"include:|file:", block.text))
    used = {Path(file).name for block in included for file in load(block, folder).files}
    assert named()
    for block in named():
        path = Path(block.name or "")
        said = f"python: {path.stem}:" in texts or f" {path} " in texts
        assert path.name in used or said, f"{block}: nothing uses {block.name}"


def test_the_page_of_fields_is_the_field_table() -> None:
    assert FIELDS_PAGE.read_text() == markdown(list(FIELDS.values())), (
        "docs/fields.md is old: .venv/bin/qfilter fields --format markdown > docs/fields.md"
    )


# Tables of the guide


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of the first table behind a heading, without its head."""
    section = GUIDE.read_text().partition(f"# {heading}\n")[2].partition("\n#")[0]
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert table is not None, f"no table below {heading!r}"
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table[1].splitlines()]


def test_the_answers_of_reject() -> None:
    assert rows("Reject") == [
        (f"`{answer}`", names[Family.IPV4], names[Family.IPV6]) for answer, names in UNREACHABLE.items()
    ]


def test_the_causes_of_failure() -> None:
    assert [first for first, *_ in rows("When something fails")] == [f"`{cause}`" for cause in CAUSES]


def test_what_a_packet_of_a_test_has_by_itself() -> None:
    for names, *columns in rows("What a test packet has"):
        for name, (family, said) in product(re.findall(r"`([^`]+)`", names), zip(Family, columns, strict=True)):
            row = FIELDS[name]
            protocols = [number for number in row.protocols if number in (TCP, ICMP, ICMPV6)][:1]
            wanted = {"protocol": protocols[0]} if protocols else {}
            if family in row.families:
                fields = dict(explain(ENGINE, build({"hook": "input", "family": family, **wanted})).fields)
                assert f"`{fields[name]}`" == said, (name, family)


ENGINE = ReferenceEngine(loads("version: 1\ndefault: {input: drop}\n", "empty.yaml"))


def test_the_codes_of_malformed_packets() -> None:
    found = {first: rest for first, *rest in rows("Malformed packets")}
    assert list(found) == [f"`{code}`" for code in Malformed]
    assert {code for code, rest in found.items() if "can be allowed" in rest[0]} == {f"`{code}`" for code in ALLOWABLE}


def test_the_keys_of_events() -> None:
    packet = Packet.from_bytes(b"", hook=Hook.INPUT)
    event = verdict_event(Verdict(ACCEPT, Reason.DEFAULT), packet, {}, policy="", now=0.0)
    named = [key for first, *_ in rows("Events") for key in re.findall(r"`(\w+)`", first)]
    assert sorted(named) == sorted(event)
    assert {kind for kind in EventType if f"`{kind}`" in GUIDE.read_text()} == set(EventType)


# Commands


def arguments(line: str) -> list[str] | None:
    """What stands behind `qfilter`, or None where the line does not call it."""
    words = shlex.split(line)
    at = next((index for index, word in enumerate(words) if Path(word).name == "qfilter"), None)
    if at is None:
        return None
    end = next((index for index, word in enumerate(words) if index > at and word in (">", "|", "&&")), None)
    return words[at + 1 : end]


def subcommand(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, f"qfilter has no command {name!r}"
    return found


def calls(language: str, pattern: str) -> list[str]:
    lines = [
        line
        for file in (README, GUIDE)
        for block in documents.blocks(file, language)
        for line in block.text.splitlines()
    ]
    return [line.partition("=")[2] if language == "ini" else line for line in lines if re.search(pattern, line)]


SHOWN = [*(line for file in (README, GUIDE) for line in documents.commands(file)), *calls("ini", "^Exec")]


@pytest.mark.parametrize("line", [line for line in SHOWN if arguments(line)])
def test_a_command_that_is_shown_is_one_that_qfilter_takes(line: str) -> None:
    name, *rest = arguments(line) or [""]
    subcommand(name).make_context(name, rest).close()


@pytest.mark.parametrize("file", documents.markdown_files(), ids=lambda file: file.name)
def test_a_command_in_the_text_exists_with_its_options(file: Path) -> None:
    for code in documents.inline_code(file):
        if code.startswith("qfilter "):
            _, name, *rest = code.split()
            known = {option for parameter in subcommand(name).params for option in parameter.opts}
            assert {word for word in rest if word.startswith("-")} <= known, f"{file.name}: {code}"


# Links


@pytest.mark.parametrize("file", documents.markdown_files(), ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path) -> None:
    for target in documents.links(file):
        path, _, heading = target.partition("#")
        found = (file.parent / path) if path else file
        assert found.exists(), f"{file.name}: link to {target}"
        if heading:
            assert heading in headings(found), f"{file.name}: link to {target}"


@pytest.mark.parametrize("file", documents.markdown_files(), ids=lambda file: file.name)
def test_paths_of_the_repository_exist(file: Path) -> None:
    missing = [word for word in documents.paths(file) if not any((base / word).exists() for base in bases(file))]
    assert missing == []


def bases(file: Path) -> tuple[Path, ...]:
    return (ROOT, ROOT / "qfilter", file.parent)


def headings(file: Path) -> set[str]:
    """Its headings as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}

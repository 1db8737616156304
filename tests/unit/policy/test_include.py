"""Includes: where their rules stand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qfilter.errors import PolicyError
from qfilter.policy.load import load

HEAD = "version: 1\ndefault: {input: drop}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "etc"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def write(**files: str) -> None:
    """Files by name; `lib__a` is lib/a.yaml."""
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def rule(name: str) -> str:
    return f"{{id: {name}, match: {{iifname: {name}}}, verdict: drop}}"


def ids() -> list[str]:
    return [one.id for one in load("main.yaml").rules]


def said() -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load("main.yaml")
    return [f"{found.at}: {found.message}" for found in caught.value.diagnostics]


def test_included_rules_come_first_in_the_order_of_the_list() -> None:
    write(
        main=f"{HEAD}include: [b.yaml, 'lib/*.yaml']\nrules: [{rule('own')}]",
        b=f"rules: [{rule('b')}]",
        lib__2=f"rules: [{rule('two')}]",
        lib__1=f"rules: [{rule('one')}]",
    )
    assert ids() == ["b", "one", "two", "own"]
    assert load("main.yaml").files == ("main.yaml", "b.yaml", "lib/1.yaml", "lib/2.yaml")


def test_an_entry_puts_rules_where_it_stands() -> None:
    write(main=f"{HEAD}rules: [{rule('a')}, {{include: b.yaml}}, {rule('c')}]", b=f"rules: [{rule('b')}]")
    assert ids() == ["a", "b", "c"]


def test_an_entry_inside_a_rule() -> None:
    outer = "{id: udp, match: {protocol: udp}, rules: [{include: b.yaml}]}"
    write(main=f"{HEAD}rules: [{outer}]", b=f"rules: [{rule('b')}]")
    (udp,) = load("main.yaml").rules
    assert [inner.id for inner in udp.rules] == ["b"]


def test_rules_inside_a_rule_are_checked_against_it_in_any_file() -> None:
    write(
        main=f"{HEAD}rules: [{{id: icmp, match: {{protocol: icmp}}, rules: [{{include: b.yaml}}]}}]",
        b="rules: [{match: {dport: 22}, verdict: drop}]",
    )
    (found,) = said()
    assert found.startswith("b.yaml:1:18: no packet can meet 'dport' together with `protocol`")


def test_paths_are_relative_to_their_file_and_ids_to_the_folder() -> None:
    write(
        main=f"{HEAD}include: lib/a.yaml",
        lib__a="include: b.yaml",
        lib__b="rules: [{match: {dport: 22}, verdict: drop}]",
    )
    assert ids() == ["lib/b.yaml:1"]
    assert str(load("main.yaml").rules[0].at) == "lib/b.yaml:1:9"


def test_names_tests_and_sets_are_shared() -> None:
    write(
        main=f"{HEAD}include: [lib/a.yaml]\nrules: [{{id: web, match: {{saddr: $lan, dport: $web}}, verdict: drop}}]",
        lib__a="version: 1\ndefine: {lan: 192.0.2.0/24, spare: 1}\nsets: {web: {type: port, file: web.txt}}\n"
        "tests: [{packet: {hook: input}, expect: drop, by: web}, {packet: {hook: output}, expect: drop}]",
    )
    Path("lib/web.txt").write_text("80\n443\n")
    policy = load("main.yaml")
    assert list(policy.sets) == ["web"]
    assert [case.by for case in policy.tests] == ["web"]  # the policy has no default for output
    assert policy.files[-1] == "lib/web.txt"


def test_a_file_of_names_may_be_included_twice() -> None:
    both = "include: [names.yaml]"
    write(main=f"{HEAD}include: [a.yaml, b.yaml]", a=both, b=both, names="define: {x: 1}")
    assert load("main.yaml").files == ("main.yaml", "a.yaml", "names.yaml", "b.yaml")


def test_a_file_of_rules_stands_in_one_place() -> None:
    write(main=f"{HEAD}include: [a.yaml]\nrules: [{{include: a.yaml}}]", a=f"rules: [{rule('a')}]")
    assert said() == [
        "main.yaml:4:19: 'a.yaml' is already included at main.yaml:3:11: rules can stand in one place only"
    ]


def test_a_mistake_says_how_its_file_was_reached() -> None:
    write(main=f"{HEAD}include: [a.yaml]", a="include: [b.yaml]", b="rulez: []")
    with pytest.raises(PolicyError) as caught:
        load("main.yaml")
    (found,) = caught.value.diagnostics
    assert (str(found.at), found.source) == ("b.yaml:1:1", "rulez: []")
    assert [str(at) for at in found.included_from] == ["a.yaml:1:11", "main.yaml:3:11"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.yaml", "'none.yaml' matches no file"),
        ("lib/none.yaml", "'lib/none.yaml' matches no file: copy the shipped rules/lib into the policy's folder"),
        ("none/*.yaml", "'none/*.yaml' matches no file"),
        ("../other.yaml", "'../other.yaml' leaves the policy's folder: expected a path below it, without '..'"),
        ("/etc/hosts", "'/etc/hosts' leaves the policy's folder: expected a path below it, without '..'"),
        ("link.yaml", "'link.yaml' is a link that leaves the policy's folder"),
        ("l*.yaml", "'link.yaml' is a link that leaves the policy's folder"),
        ("away/other.yaml", "'away/other.yaml' is a link that leaves the policy's folder"),
        ("a/**/b.yaml", "'a/**/b.yaml': expected one '*' a folder, '**' is not taken"),
        ("*.yaml", "'*' begins an alias: quote it to mean the text"),
        ("''", "'' is not a path"),
        ("main.yaml", "'main.yaml' includes itself in the end"),
        ("folder", "'folder' matches no file"),
        ("5", "expected a path as text"),
        ("{}", "expected a path as text"),
    ],
)
def test_paths_that_are_refused(path: str, message: str, folder: Path) -> None:
    (folder.parent / "other.yaml").write_text("define: {}")
    Path("link.yaml").symlink_to("../other.yaml")
    Path("away").symlink_to("..")
    Path("folder").mkdir()
    write(main=f"{HEAD}include: [{path}]")
    assert [line.removeprefix("etc/") for line in said()] == [f"main.yaml:3:11: {message}"]


def test_a_cycle() -> None:
    write(main=f"{HEAD}include: [a.yaml]", a="include: b.yaml", b="rules: [{include: a.yaml}]")
    assert said() == ["b.yaml:1:19: 'a.yaml' includes itself in the end"]


def test_depth() -> None:
    files = {f"f{n}": f"include: f{n + 1}.yaml" for n in range(1, 8)}
    write(main=f"{HEAD}include: [f1.yaml]", **files, f8="define: {}")
    assert said() == ["f7.yaml:1:10: more than 8 files include each other in a row"]


def test_links_inside_the_folder_are_followed() -> None:
    write(main=f"{HEAD}include: [link.yaml]", a=f"rules: [{rule('a')}]")
    Path("link.yaml").symlink_to("a.yaml")
    assert ids() == ["a"]


def test_hidden_files_match_no_pattern() -> None:
    write(main=f"{HEAD}include: ['lib/*']", lib__a=f"rules: [{rule('a')}]")
    Path("lib/.#a.yaml").write_text("an editor's lock")
    assert ids() == ["a"]


@pytest.mark.parametrize("key", ["default: {input: drop}", "on_failure: {}", "queue: {}", "allow: []"])
def test_what_only_the_policy_itself_says(key: str) -> None:
    write(main=f"{HEAD}include: [a.yaml]", a=key)
    assert said() == [
        f"a.yaml:1:1: unknown key {key.partition(':')[0]!r}: expected version, include, define, sets, rules, tests"
    ]


def test_names_of_a_broken_file_are_not_called_undefined() -> None:
    rules = "rules: [{match: {saddr: $lan, dprt: 1}, verdict: drop}]"
    write(main=f"{HEAD}include: [a.yaml]\n{rules}", a="define: {lan: [")
    assert [line.partition(": ")[0] for line in said()] == ["a.yaml:2:1", "main.yaml:4:31"]


def test_an_include_behind_a_reference_is_not_forgotten() -> None:
    write(main=f"{HEAD}define: {{all: [{{include: a.yaml}}]}}\nrules: $all", a=f"rules: [{rule('a')}]")
    assert said() == ["main.yaml:3:26: 'a.yaml': an include cannot stand behind a reference"]


def test_an_entry_that_includes_does_nothing_else() -> None:
    write(main=f"{HEAD}rules: [{{include: a.yaml, hook: input}}]", a=f"rules: [{rule('a')}]")
    assert said() == ["main.yaml:3:27: unknown key 'hook': expected include"]

"""Python conditions: what is loaded, and what is refused because others could have written it."""

from __future__ import annotations

import gc
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from qfilter import predicates
from qfilter.daemon.preparing import EngineName, engine_maker
from qfilter.errors import PolicyError
from qfilter.model.packet import Packet
from qfilter.model.rule import AllOf, Predicate, PythonTest
from qfilter.policy.conditions import parse_match
from qfilter.policy.load import load
from tests.unit.engine.policies import packet
from tests.unit.engine.policies import said as engine_said
from tests.unit.policy.reading import a_scope, node_of, said

SOURCE = """
from dataclasses import dataclass
from qfilter.predicates import predicate

@dataclass
class Seen:
    count: int = 0

def plain(packet):
    return True

@predicate("{name}", needs=("payload", "saddr"))
def decorated(packet):
    return False

number = 5
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that only this user can write, above it too; temporary folders are sticky, and so refused."""
    before = os.umask(0o022)
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".qfilter-test-") as name:
        yield Path(name)
    os.umask(before)


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    path.chmod(0o644)
    return path


def bound(folder: Path, *names: str) -> tuple[list[Predicate], list[str]]:
    """What the conditions of one policy ask, and the problems without their place."""
    scope = a_scope(str(folder))
    found = [parse_match(node_of(f"{{python: '{name}'}}"), scope) for name in names]
    tests = [test for each in found if isinstance(each, AllOf) for test in each.conditions]
    problems = [one.partition(" ")[2] for one in said(scope)]
    return [test.predicate for test in tests if isinstance(test, PythonTest)], problems


def loaded(folder: Path, name: str) -> tuple[str | None, list[str]]:
    """The name of the condition, and the problems without their place."""
    found, problems = bound(folder, name)
    return found[0].name if found else None, problems


def source_of(answer: bool) -> str:
    """A plugin with a function that is registered too."""
    decorated = '@predicate("test.plugins.own")\ndef own(packet): return f(packet)\n'
    return f"from qfilter import predicate\ndef f(packet): return {answer}\n{decorated}"


def answers(found: Iterable[Predicate]) -> list[bool]:
    return [each.function(packet()) for each in found]


def test_a_function_of_a_file(folder: Path) -> None:
    write(folder / "one.py", SOURCE.format(name="test.plugins.one"))
    (found,), problems = bound(folder, "one:plain")
    assert (found.name, found.needs, problems) == ("one:plain", (), [])


def test_a_decorated_function_keeps_its_needs(folder: Path) -> None:
    write(folder / "two.py", SOURCE.format(name="test.plugins.two"))
    found, problems = bound(folder, "two:decorated", "test.plugins.two")
    assert problems == []
    assert [(each.name, each.needs) for each in found] == [
        ("two:decorated", ("payload", "saddr")),
        ("test.plugins.two", ("payload", "saddr")),
    ]
    assert found[0].function is found[1].function


def test_dots_are_folders(folder: Path) -> None:
    write(folder / "checks" / "dns.py", SOURCE.format(name="test.plugins.dots"))
    assert loaded(folder, "checks.dns:plain") == ("checks.dns:plain", [])


def test_a_file_runs_once_until_it_changes(folder: Path) -> None:
    source = "from pathlib import Path\nPath({0!r}).open('a').write('.')\ndef f(packet): return {1}\n"
    runs = folder / "runs"
    write(folder / "again.py", source.format(str(runs), True))
    assert loaded(folder, "again:f") == loaded(folder, "again:f") == ("again:f", [])
    assert runs.read_text() == "."
    write(folder / "again.py", source.format(str(runs), False))
    assert answers(bound(folder, "again:f")[0]) == [False]
    assert runs.read_text() == ".."


def test_a_policy_keeps_the_functions_that_it_was_loaded_with(folder: Path) -> None:
    write(folder / "kept.py", source_of(True))
    old, _ = bound(folder, "kept:f", "test.plugins.own")
    write(folder / "kept.py", source_of(False))
    new, problems = bound(folder, "kept:f", "test.plugins.own")
    assert (answers(old), answers(new), problems) == ([True, True], [False, False], [])


@pytest.mark.parametrize("engine", EngineName)
def test_an_edited_plugin_changes_nothing_for_the_policy_in_force(folder: Path, engine: EngineName) -> None:
    text = "version: 1\ndefault: {input: accept}\nrules: [{id: bad, match: {python: 'bad:f'}, verdict: drop}]\n"
    path = write(folder / "policy.yaml", text)
    write(folder / "bad.py", source_of(True))
    in_force = engine_maker(engine, load(str(path)))(None)
    assert engine_said(in_force.decide(packet())) == ("drop", "rule", "bad")
    write(folder / "bad.py", source_of(False))
    path.write_text(text + "rules: again\n")
    with pytest.raises(PolicyError):
        load(str(path))
    assert engine_said(in_force.decide(packet())) == ("drop", "rule", "bad")
    path.write_text(text)
    assert engine_said(engine_maker(engine, load(str(path)))(None).decide(packet())) == ("accept", "default", None)
    assert engine_said(in_force.decide(packet())) == ("drop", "rule", "bad")


def test_what_a_plugin_registers_ends_with_its_policy(folder: Path) -> None:
    write(folder / "gone.py", source_of(True))
    found, _ = bound(folder, "gone:f", "test.plugins.own")
    functions = [weakref.ref(each.function) for each in found]
    write(folder / "gone.py", source_of(False))
    bound(folder, "gone:f")
    gc.collect()
    assert all(each() is not None for each in functions)
    del found
    gc.collect()
    assert [each() for each in functions] == [None, None]
    assert predicates.find("test.plugins.own") is None
    assert loaded(folder, "test.plugins.own")[1][0].startswith("unknown-name: predicate 'test.plugins.own'")


def test_an_installed_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "installed_for_test" / "__init__.py", "")
    write(folder / "installed_for_test" / "inside.py", SOURCE.format(name="test.plugins.installed"))
    monkeypatch.syspath_prepend(folder)
    nowhere = Path("/nonexistent")
    assert loaded(nowhere, "installed_for_test.inside:plain") == ("installed_for_test.inside:plain", [])


def test_an_installed_module_that_others_can_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "refused_for_test.py", f"open({str(folder / 'ran')!r}, 'w').close()\n").chmod(0o646)
    monkeypatch.syspath_prepend(folder)
    registered, problems = loaded(Path("/nonexistent"), "refused_for_test:f")
    assert registered is None
    assert [f"{folder}/refused_for_test.py can be written by others (mode 0646)" in one for one in problems] == [True]
    assert not (folder / "ran").exists()


def test_policies_of_two_folders_have_plugins_of_one_name(folder: Path) -> None:
    for name, answer in (("a", True), ("b", False)):
        write(folder / name / "same.py", source_of(answer))
    one, other = (bound(folder / name, "same:f", "test.plugins.own") for name in ("a", "b"))
    assert (answers(one[0]), answers(other[0])) == ([True, True], [False, False])
    assert one[1] == other[1] == []


def test_two_plugins_of_a_policy_do_not_share_a_name(folder: Path) -> None:
    for name in ("first", "second"):
        write(folder / f"{name}.py", source_of(True))
    found, problems = bound(folder, "first:f", "second:f")
    held = f"predicate 'test.plugins.own': already registered by qfilter plugin {folder}/first.py.own"
    assert ([each.name for each in found], problems) == (["first:f"], [f"plugin: python 'second:f': {held}"])


def test_a_plugin_does_not_take_a_name_of_the_program(folder: Path) -> None:
    @predicates.predicate("test.plugins.program")
    def mine(_: Packet) -> bool:
        return True

    write(folder / "takes.py", SOURCE.format(name="test.plugins.program"))
    found, problems = bound(folder, "takes:plain")
    assert found == []
    assert "predicate 'test.plugins.program': already registered by tests.unit.policy.test_plugins." in problems[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("three:palin", "plugin: python 'three:palin': three has no function 'palin' (three:plain)"),
        ("three:number", "plugin: python 'three:number': three has no function 'number'"),
        ("three", "unknown-name: predicate 'three': expected module:function or a registered name"),
        ("../three:plain", "plugin: python '../three:plain': expected module:function"),
        ("three:plain:x", "plugin: python 'three:plain:x': expected module:function"),
        ("nothing_like_it:f", "plugin: python 'nothing_like_it:f': expected the file "),
        ("raises:f", "plugin: python 'raises:f': importing it raised ZeroDivisionError at "),
        ("cancels:f", "plugin: python 'cancels:f': importing it raised CancelledError at "),
        ("last:f", "plugin: python 'last:f': importing it raised Last at "),
        ("lazy:f", "plugin: python 'lazy:f': importing it raised SystemExit at "),
        ("exits:f", "plugin: python 'exits:f': importing it raised SystemExit at "),
        ("syntax:f", "plugin: python 'syntax:f': importing it raised SyntaxError at "),
        ("large:f", "plugin: python 'large:f': "),
        ("directory:f", "plugin: python 'directory:f': "),
    ],
)
def test_what_cannot_be_loaded(folder: Path, name: str, message: str) -> None:
    write(folder / "three.py", "number = 5\ndef plain(packet): return True\n")
    write(folder / "raises.py", "\n1 / 0\n")
    write(folder / "cancels.py", "import asyncio\nraise asyncio.CancelledError\n")
    write(folder / "last.py", "class Last(Exception):\n    def __str__(self): raise SystemExit\nraise Last\n")
    write(
        folder / "lazy.py",
        "def __getattr__(name):\n    if name == 'f': raise SystemExit(0)\n    raise AttributeError\n",
    )
    write(folder / "exits.py", "raise SystemExit(0)\n")
    write(folder / "syntax.py", "def f(:\n")
    write(folder / "large.py", "#" * (1 << 20) + "\n")
    (folder / "directory.py").mkdir()
    registered, problems = loaded(folder, name)
    assert registered is None
    assert [one[: len(message)] for one in problems] == [message]


def test_one_that_ctrl_c_interrupts_runs_again(folder: Path) -> None:
    runs = folder / "runs"
    first = f"if not (runs := pathlib.Path({str(runs)!r})).exists():\n    runs.touch()\n    raise KeyboardInterrupt\n"
    write(folder / "interrupted.py", f"import pathlib\n{first}def f(packet): return True\n")
    with pytest.raises(KeyboardInterrupt):
        bound(folder, "interrupted:f")
    assert answers(bound(folder, "interrupted:f")[0]) == [True]


def test_the_line_of_a_plugin_that_raises(folder: Path) -> None:
    write(folder / "line.py", "\n\n1 / 0\n")
    assert loaded(folder, "line:f")[1] == [
        f"plugin: python 'line:f': importing it raised ZeroDivisionError at {folder}/line.py:3: division by zero"
    ]


def refused(folder: Path, name: str = "mine") -> str:
    """Why a plugin was refused; its code did not run."""
    ran = folder / "ran"
    write(folder / f"{name}.py", f"open({str(ran)!r}, 'w').close()\ndef f(packet): return True\n")
    return _refused(folder, name)


def _refused(folder: Path, name: str) -> str:
    registered, problems = loaded(folder, f"{name}:f")
    assert registered is None
    assert not (folder / "ran").exists()
    (problem,) = problems
    return problem.removeprefix(f"plugin: python '{name}:f': ").replace(str(folder), "FOLDER")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write(folder: Path, mode: int) -> None:
    write(folder / "mine.py", f"open({str(folder / 'ran')!r}, 'w').close()\n").chmod(mode)
    expected = f"can be written by others (mode {mode:04o}): expected at most 0644"
    assert _refused(folder, "mine") == f"FOLDER/mine.py {expected}"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_can_write(folder: Path, mode: int) -> None:
    inside = folder / "deep" / "er"
    inside.mkdir(parents=True)
    (folder / "deep").chmod(mode)
    message = refused(inside)
    assert message.startswith(f"{folder}/deep can be written by others (mode {mode:04o})")


def test_a_folder_under_tmp(tmp_path: Path) -> None:
    assert "can be written by others (mode 1777)" in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_or_folder_of_somebody_else(folder: Path) -> None:
    inside = folder / "theirs"
    inside.mkdir()
    os.chown(inside, 65534, 65534)
    expected = "belongs to user 65534: expected root or the user who runs qfilter"
    assert refused(inside) == f"FOLDER {expected}"
    os.chown(inside, 0, 0)
    os.chown(inside / "mine.py", 65534, 65534)
    assert _refused(inside, "mine") == f"FOLDER/mine.py {expected}"


def test_a_link_is_judged_where_it_leads(folder: Path) -> None:
    behind = folder / "behind"
    behind.mkdir()
    write(behind / "real.py", "def f(packet): return True\n")
    (folder / "linked.py").symlink_to("behind/real.py")
    (folder / "absolute.py").symlink_to(behind / ".." / "behind" / "real.py")
    assert loaded(folder, "linked:f") == ("linked:f", [])
    assert loaded(folder, "absolute:f") == ("absolute:f", [])
    behind.chmod(0o777)
    assert _refused(folder, "linked").startswith("FOLDER/behind can be written by others")


def test_links_in_a_circle(folder: Path) -> None:
    (folder / "round.py").symlink_to("round.py")
    assert _refused(folder, "round") == "FOLDER/round.py: more than 40 symbolic links"


def test_a_pipe_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.py", 0o600)
    assert _refused(folder, "pipe") == "FOLDER/pipe.py is not a plain file"

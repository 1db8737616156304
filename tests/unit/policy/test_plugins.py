"""Python conditions: what is loaded, and what is refused because others could have written it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfilter import predicates
from qfilter.model.rule import AllOf, PythonTest
from qfilter.policy.conditions import parse_match
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


def loaded(folder: Path, name: str) -> tuple[str | None, list[str]]:
    """The name of the registered condition, and the problems without their place."""
    scope = a_scope(str(folder))
    found = parse_match(node_of(f"{{python: '{name}'}}"), scope)
    problems = [one.partition(" ")[2] for one in said(scope)]
    if found is None:
        return None, problems
    assert isinstance(found, AllOf)
    (test,) = found.conditions
    assert isinstance(test, PythonTest)
    return test.name, problems


def test_a_function_of_a_file(folder: Path) -> None:
    write(folder / "one.py", SOURCE.format(name="test.plugins.one"))
    assert loaded(folder, "one:plain") == ("one:plain", [])
    found = predicates.find("one:plain")
    assert found is not None
    assert found.needs == ()


def test_a_decorated_function_keeps_its_needs(folder: Path) -> None:
    write(folder / "two.py", SOURCE.format(name="test.plugins.two"))
    assert loaded(folder, "two:decorated") == ("two:decorated", [])
    found = predicates.find("two:decorated")
    assert found is not None
    assert found.needs == ("payload", "saddr")
    assert predicates.find("test.plugins.two") is not None


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
    assert loaded(folder, "again:f") == ("again:f", [])
    assert runs.read_text() == ".."
    found = predicates.find("again:f")
    assert found is not None
    assert found.function.__code__.co_consts[-1] is False


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


def test_two_files_of_one_name_do_not_replace_each_other(folder: Path) -> None:
    for name in ("a", "b"):
        write(folder / name / "same.py", "def f(packet): return True\n")
    assert loaded(folder / "a", "same:f") == ("same:f", [])
    registered, problems = loaded(folder / "b", "same:f")
    assert registered is None
    assert "already registered" in problems[0]


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
        ("exits:f", "plugin: python 'exits:f': importing it raised SystemExit at "),
        ("syntax:f", "plugin: python 'syntax:f': importing it raised SyntaxError at "),
        ("large:f", "plugin: python 'large:f': "),
        ("directory:f", "plugin: python 'directory:f': "),
    ],
)
def test_what_cannot_be_loaded(folder: Path, name: str, message: str) -> None:
    write(folder / "three.py", "number = 5\ndef plain(packet): return True\n")
    write(folder / "raises.py", "\n1 / 0\n")
    write(folder / "exits.py", "raise SystemExit(0)\n")
    write(folder / "syntax.py", "def f(:\n")
    write(folder / "large.py", "#" * (1 << 20) + "\n")
    (folder / "directory.py").mkdir()
    registered, problems = loaded(folder, name)
    assert registered is None
    assert [one[: len(message)] for one in problems] == [message]


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

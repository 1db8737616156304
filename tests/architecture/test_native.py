"""The crates of native/ keep to their rooms, and so does who imports what they build."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SYSTEM = {"libc", "nix", "rustix"}
MAY_NOT_DEPEND_ON = {
    "core": {"qfilter-queue", "qfilter-native", "pyo3"} | SYSTEM,
    "queue": {"qfilter-core", "qfilter-native", "pyo3"},
    "python": set[str](),
}
INPUT_OUTPUT = re.compile(r"\bstd::(env|fs|io|os|process|thread)\b|\b(TcpListener|TcpStream|UdpSocket)\b")
UNIT_TESTS = re.compile(r"\n#\[cfg\(test\)\]\n(?:pub\(\w+\) )?mod tests \{")
UNSAFE = re.compile(r"^[^/]*\bunsafe\b(?!_code)", re.MULTILINE)


def dependencies(crate: Path) -> set[str]:
    manifest = tomllib.loads((crate / "Cargo.toml").read_text())
    return set(manifest["dependencies"]) | set(manifest.get("build-dependencies", {}))


def shipped(crate: Path) -> Iterator[str]:
    """The sources without unit tests, which stand at the end of a file or in a module `tests`."""
    for path in sorted((crate / "src").rglob("*.rs")):
        if "tests" not in {path.stem, path.parent.name}:
            yield UNIT_TESTS.split(path.read_text())[0]


def breaches(native: Path) -> Iterator[str]:
    for crate, forbidden in MAY_NOT_DEPEND_ON.items():
        for name in sorted(dependencies(native / crate) & forbidden):
            yield f"{crate} depends on {name}"
        for source in shipped(native / crate):
            if crate == "core" and (found := INPUT_OUTPUT.search(source)):
                yield f"core names {found[0]}"
            if crate != "queue" and UNSAFE.search(source):
                yield f"{crate} has unsafe code"
    if "#![forbid(unsafe_code)]" not in (native / "core/src/lib.rs").read_text():
        yield "core does not forbid unsafe code"


def test_crates_keep_to_their_rooms() -> None:
    assert list(breaches(ROOT / "native")) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "breach"),
    [
        ("core/Cargo.toml", "[dependencies]", "[dependencies]\npyo3 = '0'", "core depends on pyo3"),
        ("core/Cargo.toml", "[dependencies]", "[dependencies]\nlibc = '0'", "core depends on libc"),
        (
            "queue/Cargo.toml",
            "[dependencies]",
            "[dependencies]\nqfilter-core = {path = '../core'}",
            "queue depends on qfilter-core",
        ),
        ("core/src/lib.rs", "#![forbid(unsafe_code)]", "", "core does not forbid unsafe code"),
        ("core/src/lib.rs", "#![forbid(unsafe_code)]", "#![forbid(unsafe_code)]\nuse std::fs;", "core names std::fs"),
        ("python/src/lib.rs", "mod _native {", "mod _native { fn f() { unsafe { g() } }", "python has unsafe code"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, old: str, new: str, breach: str) -> None:
    native = tmp_path / "native"
    shutil.copytree(ROOT / "native", native, ignore=shutil.ignore_patterns("target"))
    text = (native / file).read_text()
    assert old in text
    (native / file).write_text(text.replace(old, new, 1))
    assert breach in list(breaches(native))


def names_of_the_root(source: str) -> set[str]:
    """What a file of Python imports from the package `qfilter` itself or from its extension."""
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="qfilter"):
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module="qfilter._native"):
                names.add("_native")
            case ast.Import():
                names |= {alias.name for alias in node.names if alias.name in {"qfilter", "qfilter._native"}}
    return names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from qfilter import _native", {"_native"}),
        ("from qfilter._native import VERSION", {"_native"}),
        ("from qfilter import _native, load", {"_native", "load"}),
        ("import qfilter", {"qfilter"}),
        ("import qfilter._native", {"qfilter._native"}),
        ("from qfilter.model.hook import Hook", set()),
    ],
)
def test_what_a_file_takes_from_the_root(source: str, names: set[str]) -> None:
    assert names_of_the_root(source) == names


def test_native_files_take_the_extension_and_nothing_else_of_the_root() -> None:
    """import-linter takes the extension for `qfilter`, which these files alone may import; so this looks closer."""
    taken = {path: names_of_the_root(path.read_text()) for path in ROOT.glob("qfilter/*/native.py")}
    assert [path for path, names in taken.items() if not names <= {"_native"}] == []

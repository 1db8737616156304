"""Files stay short enough to be read in one sitting."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 600


SOURCES = ("qfilter/**/*.py", "tests/**/*.py", "benchmarks/**/*.py", "native/*.py", "native/*/**/*.rs")


def introduction(path: Path, source: str) -> str:
    """What a file says of itself first: a Python module's docstring, a Rust file's `//!` lines."""
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(source)) or ""
    return "\n".join(itertools.takewhile(lambda line: line.startswith("//!"), source.splitlines()))


def test_a_long_file_says_why() -> None:
    """Its introduction has a sentence such as `Above 600 lines because ...`."""
    paths = [path for pattern in SOURCES for path in ROOT.glob(pattern) if ROOT / "native/target" not in path.parents]
    sources = {path: path.read_text() for path in paths}
    assert {".py", ".rs"} == {path.suffix for path in sources}
    assert not [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path, source in sorted(sources.items())
        if (lines := len(source.splitlines())) > LIMIT and f"{LIMIT} lines because" not in introduction(path, source)
    ]

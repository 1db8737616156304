"""Files stay short enough to be read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 600


def says_why(source: str) -> bool:
    return f"{LIMIT} lines because" in (ast.get_docstring(ast.parse(source)) or "")


def test_a_long_file_says_why() -> None:
    """Its module's docstring has a sentence such as `Above 600 lines because ...`."""
    sources = {
        path: path.read_text() for room in ("qfilter", "tests", "benchmarks") for path in ROOT.glob(f"{room}/**/*.py")
    }
    assert sources
    assert not [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path, source in sorted(sources.items())
        if (lines := len(source.splitlines())) > LIMIT and not says_why(source)
    ]

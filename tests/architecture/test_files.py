"""Files stay short enough to be read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 600


SOURCES = [path for folder in ("qfilter", "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_long_file_says_why(path: Path) -> None:
    """Above 600 lines the module's docstring has a sentence such as `Above 600 lines because ...`."""
    text = path.read_text()
    lines = text.count("\n")
    reason = ast.get_docstring(ast.parse(text)) or ""
    assert lines <= LIMIT or f"{LIMIT} lines because" in reason, f"{path}: {lines} lines and no reason in its docstring"

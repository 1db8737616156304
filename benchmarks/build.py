"""The C programs in c/, compiled into a folder that git ignores."""

from __future__ import annotations

from pathlib import Path

from tests.lab.process import run

FOLDER = Path(__file__).parent
CACHE = FOLDER / ".cache"
"""Everything that can be made again: programs, policies, captures."""

_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def program(name: str) -> str:
    """The path of a compiled c/NAME.c, compiling it when it is older than its source."""
    source, binary = FOLDER / "c" / f"{name}.c", CACHE / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        run(["cc", *_FLAGS, "-o", str(binary), str(source)], timeout=60.0)
    return str(binary)

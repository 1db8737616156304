"""The C programs in c/, compiled, and a folder for everything else that a run makes for itself."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.process import run

_SOURCES = Path(__file__).parent / "c"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
_temporary = TemporaryDirectory(prefix="qfilter-bench-")

SCRATCH = Path(_temporary.name)
"""Programs, policies, captures: outside the checkout, so that root leaves nothing in it, and gone with this process."""
# Cargo runs as the checkout's owner and reads plan documents here.
SCRATCH.chmod(0o755)


@functools.cache
def program(name: str) -> str:
    """The path of c/NAME.c compiled."""
    binary = SCRATCH / name
    run(["cc", *_FLAGS, "-o", str(binary), str(_SOURCES / f"{name}.c")], timeout=60.0)
    return str(binary)

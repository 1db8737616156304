"""maturin as a build backend (PEP 517, PEP 660) that says in one line what to install where Rust is missing or too old.

maturin's own answer to that is many lines, or a toolchain that it downloads. This module stops every hook on import.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from maturin import (
    build_editable,
    build_sdist,
    build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

RUST = Path(__file__).parents[1] / "tools" / "rust"


def path_with_rust() -> str:
    """The PATH to build with. Raises SystemExit with one line when a compiler or the linker is missing."""
    if not shutil.which("cc"):
        raise SystemExit("qfilter is linked by a C compiler: install cc (Debian: apt-get install gcc libc6-dev)")
    command = ["sh", str(RUST), "printenv", "PATH"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 nobody else's words
    if found.returncode:
        raise SystemExit(found.stderr.strip())
    return found.stdout.strip()


os.environ["PATH"] = path_with_rust()

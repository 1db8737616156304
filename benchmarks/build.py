"""The programs that are measured, compiled, and a folder for everything else that a run makes for itself."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.process import ROOT, run

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


@functools.cache
def example(package: str, name: str) -> str:
    """The path of an example of a crate of native/, built for release."""
    cargo = [str(ROOT / "tools/as-owner"), str(ROOT / "tools/rust"), "cargo", "build", "--release", "--locked"]
    where = ["--manifest-path", str(ROOT / "native/Cargo.toml"), "--package", package, "--example", name]
    told = run([*cargo, *where, "--message-format", "json"], timeout=1_200.0).stdout.splitlines()
    binaries = [message["executable"] for message in map(json.loads, told) if message.get("executable")]
    return str(binaries[-1])

"""What a build from source says where Rust is missing or too old, and which Rust it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qfilter import _native

ROOT = Path(__file__).parents[2]
# No Rust of the machine's own is as new as this, so that only what a test puts there is found.
WANTED = "999.1"
MISSING = (
    "qfilter is compiled with Rust 999.1 or newer: install cargo and rustc from https://rustup.rs"
    " or your system's packages (Debian 12: apt-get install cargo-web rustc-web)\n"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for file in ("tools/rust", "native/build_backend.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "native/Cargo.toml").write_text(f'[workspace.package]\nrust-version = "{WANTED}"\n')
    hooks = ("build_editable", "build_sdist", "build_wheel")
    metadata = ("prepare_metadata_for_build_editable", "prepare_metadata_for_build_wheel")
    (tmp_path / "native/maturin.py").write_text("\n".join(f"{name} = print" for name in hooks + metadata))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("POLICY=x.yaml",),
            "POLICY needs HOST=1, and is in force on this host then: sudo make run HOST=1 POLICY=x.yaml",
        ),
        (("HOST=1",), "HOST=1 needs a policy: sudo make run HOST=1 POLICY=rules/workstation.yaml"),
    ],
)
def test_make_run_takes_host_and_policy_together(words: tuple[str, ...], said: str) -> None:
    command = ["make", "--dry-run", "run", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{said}.  Stop." in done.stderr


def tool(folder: Path, name: str, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{name} {version} (0123abc 2026-01-01)'\n")
    (folder / name).chmod(0o755)


def run(checkout: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{checkout}/bin:{os.environ['PATH']}", "HOME": f"{checkout}/home"}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("cargo", "rustc", "enough"),
    [
        ("999.1.0", "999.1.0", True),
        ("999.10.0", "999.2.1", True),
        ("1000.0.0-nightly", "999.1.0", True),
        ("999.0.9", "999.1.0", False),
        ("999.1.0", "999.0.9", False),
        ("99.1.0", "99.1.0", False),
        ("", "", False),
    ],
)
def test_how_new_is_new_enough(checkout: Path, cargo: str, rustc: str, enough: bool) -> None:
    tool(checkout / "bin", "cargo", cargo)
    tool(checkout / "bin", "rustc", rustc)
    result = run(checkout, "tools/rust", "echo", "built with it")
    expected = (0, "built with it\n", "") if enough else (1, "", MISSING)
    assert (result.returncode, result.stdout, result.stderr) == expected


def test_rustups_own_folder_is_looked_into(checkout: Path) -> None:
    for name in ("cargo", "rustc"):
        tool(checkout / "bin", name, "999.0.0")
        tool(checkout / "home/.cargo/bin", name, "999.1.0")
    result = run(checkout, "tools/rust", "cargo")
    assert result.stdout == "cargo 999.1.0 (0123abc 2026-01-01)\n"


LOAD_BACKEND = "import sys; sys.path.insert(0, 'native'); import build_backend, os; print(os.environ['PATH'])"


def test_a_build_without_rust_ends_with_one_line(checkout: Path) -> None:
    result = run(checkout, sys.executable, "-c", LOAD_BACKEND)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", MISSING)


def test_a_build_without_a_linker_ends_with_one_line(checkout: Path) -> None:
    result = run(checkout, sys.executable, "-c", f"import os; os.environ['PATH'] = ''; {LOAD_BACKEND}")
    words = "qfilter is linked by a C compiler: install cc (Debian: apt-get install gcc libc6-dev)\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", words)


def test_a_build_finds_rustups_own_folder(checkout: Path) -> None:
    for name in ("cargo", "rustc"):
        tool(checkout / "home/.cargo/bin", name, "999.1.0")
    result = run(checkout, sys.executable, "-c", LOAD_BACKEND)
    assert result.stdout.startswith(f"{checkout}/home/.cargo/bin:{checkout}/bin:")


def test_the_extension_is_this_checkouts_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{_native.VERSION}"\n' in project

"""The contracts of pyproject.toml hold, and each of them fails when somebody breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_layers_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


LAYERS = "rooms import only what is below them"


@pytest.mark.parametrize(
    ("intruder", "line", "contract"),
    [
        # upwards, and sideways between rooms of one line
        ("errors.py", "import qfilter.model.hook", LAYERS),
        ("model/intruder.py", "import qfilter.fields", LAYERS),
        ("netlink/intruder.py", "import qfilter.queues.neighbour", LAYERS),
        ("policy/intruder.py", "import qfilter.engine.neighbour", LAYERS),
        ("firewall/intruder.py", "import qfilter.events.neighbour", LAYERS),
        ("compiler/intruder.py", "import qfilter.daemon", LAYERS),
        # only for the type checker is an import all the same
        ("model/intruder.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: import qfilter.fields", LAYERS),
        # a room that no layer names
        ("attic.py", "", LAYERS),
        # the extension, for any file but a room's native.py
        ("engine/intruder.py", "from qfilter import _native", LAYERS),
        ("firewall/native.py", "from qfilter._native import VERSION", LAYERS),
        # tools that only some rooms may use
        ("policy/intruder.py", "import scapy.all", "scapy stays in engine and scapy_layers"),
        ("fields.py", "def f() -> None: from scapy import packet", "scapy stays in engine and scapy_layers"),
        ("engine/intruder.py", "import yaml", "yaml stays in policy"),
        ("netlink/intruder.py", "import subprocess", "subprocess stays in firewall"),
        ("firewall/intruder.py", "import socket", "sockets stay in netlink, queues and control"),
        ("engine/intruder.py", "import netfilterqueue", "sockets stay in netlink, queues and control"),
        ("engine/intruder.py", "import re", "packets meet linear-time patterns only"),
    ],
)
def test_a_break_is_found(tmp_path: Path, intruder: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "qfilter", tmp_path / "qfilter", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for room in ("policy", "compiler", "engine", "queues", "firewall", "events", "netlink"):
        (tmp_path / "qfilter" / room).mkdir(exist_ok=True)
        (tmp_path / "qfilter" / room / "__init__.py").touch()
        (tmp_path / "qfilter" / room / "neighbour.py").touch()
    if not (tmp_path / "qfilter/daemon").exists():
        (tmp_path / "qfilter/daemon.py").touch()
    with (tmp_path / "qfilter" / intruder).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout

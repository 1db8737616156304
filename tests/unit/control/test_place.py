"""How a socket comes to its place, and who keeps it from there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfilter.control.place import listening
from qfilter.errors import ControlError, PrivilegeError

HOLD = """
import pathlib, sys
from qfilter.control.place import listening
with listening(pathlib.Path(sys.argv[1])):
    print("listens", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o700)
    yield tmp_path / "s"
    tmp_path.chmod(0o700)


def test_it_is_the_owners_and_nothing_is_left(place: Path) -> None:
    before = os.umask(0)
    try:
        with listening(place):
            assert place.stat().st_mode & 0o7777 == 0o600
            assert sorted(each.name for each in place.parent.iterdir()) == ["s", "s.lock"]
    finally:
        os.umask(before)
    assert list(place.parent.iterdir()) == []


def test_a_live_one_is_refused_and_a_dead_one_replaced(place: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "listens\n"
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(ControlError, match=f"{place}: process {other.pid} serves there already: end it"):
            listening(place).__enter__()
        other.kill()
        other.wait()
    assert place.is_socket()
    with listening(place), socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(place))


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_something_else_stands_there(place: Path, kind: str) -> None:
    elsewhere = place.with_name("elsewhere")
    elsewhere.write_text("precious")
    if kind == "file":
        place.touch()
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(elsewhere)
    with pytest.raises(ControlError, match=f"{place}: expected a socket or nothing there"):
        listening(place).__enter__()
    assert elsewhere.read_text() == "precious"
    assert place.exists()


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_folder_that_others_can_write_to(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    with pytest.raises(ControlError, match=rf"can be written by others \(mode {mode:04o}\): expected 0755 or 1777"):
        listening(place).__enter__()


def test_in_a_sticky_folder_nobody_else_can_take_it_away(place: Path) -> None:
    place.parent.chmod(0o1777)
    with listening(place):
        assert place.stat().st_mode & 0o7777 == 0o600


def test_a_folder_that_is_not_there_and_a_path_that_is_too_long(place: Path) -> None:
    with pytest.raises(ControlError, match="No such file or directory"):
        listening(place / "none" / "s").__enter__()
    with pytest.raises(ControlError, match="AF_UNIX path too long"):
        listening(place.with_name("x" * 120)).__enter__()
    assert list(place.parent.iterdir()) == []


def test_without_permission(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PrivilegeError, match=f"{place}: expected root, or another place with --control"):
        listening(place).__enter__()

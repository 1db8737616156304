"""The lock over the kernel rules: one holder, named, and gone with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qfilter.errors import FirewallError, PrivilegeError
from qfilter.firewall import locking
from qfilter.firewall.locking import lock, lock_or_reason

HOLD = """
import pathlib, sys
from qfilter.firewall import locking
locking._FOLDER = pathlib.Path(sys.argv[1])
with locking.lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locking, "_FOLDER", tmp_path)
    return tmp_path


def test_the_second_is_told_who_holds_it(folder: Path) -> None:
    with lock(), pytest.raises(FirewallError, match=f"process {os.getpid()} looks after the kernel rules"), lock():
        pytest.fail("held twice")
    assert list(folder.iterdir()) == []
    with lock():
        (held,) = folder.iterdir()
        assert (held.read_text(), held.stat().st_mode & 0o777) == (f"{os.getpid()}", 0o600)


def test_a_holder_that_was_killed_lets_go(folder: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FirewallError, match=f"process {other.pid} looks after"), lock():
            pytest.fail("held twice")
        other.kill()
        other.wait()
    assert len(list(folder.iterdir())) == 1
    with lock():
        assert (next(folder.iterdir())).read_text() == f"{os.getpid()}"


def test_a_file_that_its_last_holder_removed_is_no_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = os.open

    def removed_once(path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if not opened:
            Path(path).unlink()
        opened.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", removed_once)
    with lock():
        assert len(opened) == 2
        assert len(list(folder.iterdir())) == 1


def test_a_link_is_not_followed(folder: Path) -> None:
    with lock():
        (held,) = folder.iterdir()
    (folder / "elsewhere").write_text("")
    held.symlink_to(folder / "elsewhere")
    with pytest.raises(FirewallError, match=r"lock .*: "), lock():
        pytest.fail("the link was followed")
    assert (folder / "elsewhere").read_text() == ""


def place(folder: Path) -> Path:
    """Where the lock is when it is held."""
    with lock():
        (held,) = folder.iterdir()
    return held


@contextmanager
def held_by_another(held: Path) -> Iterator[None]:
    other = os.open(held, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    yield
    os.close(other)


def test_a_fifo_that_somebody_holds_does_not_block(folder: Path) -> None:
    held = place(folder)
    os.mkfifo(held)
    with (
        held_by_another(held),
        pytest.raises(FirewallError, match=r"lock .*: .*\.lock is no plain file: expected one"),
        lock(),
    ):
        pytest.fail("a fifo was taken")


@pytest.mark.parametrize("theirs", [True, False])
def test_another_users_file_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch, theirs: bool) -> None:
    held = place(folder)
    real = os.fstat
    held.write_text("1")
    monkeypatch.setattr(os, "fstat", lambda descriptor: _owned(real(descriptor), 65534 if theirs else 0))
    if theirs:
        with pytest.raises(FirewallError, match=r"lock .*: .* belongs to user 65534: expected root's"), lock():
            pytest.fail("another user's file was taken")
        assert held.read_text() == "1"
    else:
        with lock():
            assert held.read_text() == f"{os.getpid()}"


def _owned(status: os.stat_result, user: int) -> os.stat_result:
    values = list(status)
    values[4] = user
    return os.stat_result(values)


@pytest.mark.parametrize(("written", "told"), [("1\n evil \x1b[31m", "another"), ("", "another"), ("812", "812")])
def test_only_the_number_of_a_holder_is_shown(folder: Path, written: str, told: str) -> None:
    held = place(folder)
    held.write_text(written)
    with held_by_another(held), pytest.raises(FirewallError, match=f"process {told} looks after"), lock():
        pytest.fail("held twice")


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PrivilegeError, match="expected root"), lock():
        pytest.fail("taken without permission")


@pytest.mark.parametrize(("number", "why"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_where_no_lock_can_be_made_a_removal_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refused)
    with lock_or_reason() as reason:
        assert reason is not None
        assert why in reason
    with pytest.raises(FirewallError, match=why), lock():
        pytest.fail("installed without a lock")


def test_a_removal_goes_on_beside_a_service(folder: Path) -> None:
    held = place(folder)
    held.write_text("812")
    with held_by_another(held), lock_or_reason(patience=0) as reason:
        assert reason is not None
        assert reason.startswith("process 812 still serves")
    with lock_or_reason() as reason:
        assert reason is None
        assert list(folder.iterdir()) == [held]

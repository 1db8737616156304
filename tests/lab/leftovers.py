"""Removing namespaces: our own, those that a dead run left, and ours when we are killed before we could."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from tests.lab.namespace import FOLDER, Namespace
from tests.lab.process import environment, run, wait_until

_NAME = re.compile(r"qlab-(?P<pid>\d+)-(?P<born>\d+)-\d+-\w+")
_numbers = count(1)

# Blocks until the only writer of its standard input, the lab's process, is gone: by close, exit or SIGKILL.
_JANITOR = """
cat >/dev/null
for name in "$@"; do
  [ -e "/run/netns/$name" ] || continue
  for pid in $(ip netns pids "$name"); do kill -9 "$pid"; done
  ip netns delete "$name"
done
"""


def fresh_names(*roles: str) -> list[str]:
    """Names that no other run has: they carry this process's id and time of birth, and a number."""
    pid = os.getpid()
    prefix = f"qlab-{pid}-{_born(pid)}-{next(_numbers)}"
    return [f"{prefix}-{role}" for role in roles]


def remove(name: str) -> None:
    """Kills what runs in the namespace and deletes it; nothing happens when it is gone already."""
    if not (FOLDER / name).exists():
        return
    for pid in Namespace(name).pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run(["ip", "netns", "delete", name], check=False)
    wait_until(lambda: not (FOLDER / name).exists(), f"{name} should be deleted")


def sweep() -> list[str]:
    """Removes the namespaces of runs whose process is dead, and says which."""
    left = [name for name in _names() if _owner_is_dead(name)]
    for name in left:
        remove(name)
    return left


class Janitor:
    """Removes the namespaces should this process die before it could. Cheap: a shell that waits."""

    def __init__(self, names: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            ["sh", "-c", _JANITOR, "qlab-janitor", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Lets it look once more, finding nothing where all is removed, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10.0)


def _names() -> list[str]:
    try:
        return sorted(entry.name for entry in FOLDER.iterdir() if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _owner_is_dead(name: str) -> bool:
    owner = _NAME.fullmatch(name)
    assert owner is not None
    return _born(int(owner["pid"])) != int(owner["born"])


def _born(pid: int) -> int | None:
    """Start time in clock ticks since boot, None for the dead: a process id alone comes round again."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name, in parentheses, may itself hold blanks and parentheses.
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])

"""Commands: run to the end, or started and read line by line while they run."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""

_OUTPUT_LIMIT = 4_000
_MARGIN = 10
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class LabError(Exception):
    """The lab itself failed: a command refused, or what was waited for did not come in time."""


def patient(seconds: float) -> float:
    """How long to wait for what comes after `seconds` at most on a real CPU; emulated ones have QFILTER_PATIENCE=10."""
    return seconds * float(os.environ.get("QFILTER_PATIENCE", "1"))


def environment() -> dict[str, str]:
    """Ours, with the folders where Debian keeps ip and iptables, this project importable, and output unbuffered."""
    path = os.environ.get("PATH", os.defpath)
    places = [str(ROOT), *(place for place in sys.path if place)]
    return os.environ | {
        "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PYTHONUNBUFFERED": "1",
    }


def run(
    command: Sequence[str], *, check: bool = True, stdin: str = "", timeout: float = 15.0
) -> subprocess.CompletedProcess[str]:
    """The finished command. Raises LabError when it fails and `check` is set, and always when it takes too long."""
    timeout = patient(timeout)
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{' '.join(command)}: no end after {timeout:g} s") from late
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-_OUTPUT_LIMIT:]
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}: {said or 'no message'}")
    return done


def wait_until(holds: Callable[[], bool], what: str, timeout: float = 5.0) -> None:
    """Returns as soon as the condition holds; raises LabError naming `what` after `timeout` seconds."""
    timeout = patient(timeout)
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s: {what}")
        time.sleep(0.002)


def runs(pid: int) -> bool:
    """Whether the process is there and not a zombie, which has no command line."""
    try:
        return bool(Path("/proc", f"{pid}", "cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def without_colours(text: str) -> str:
    """A line as it reads, free of what only a terminal understands."""
    return _COLOURS.sub("", text)


class Running:
    """A started process. A context manager: what still runs at the end is killed.

    `lines` is everything that it has printed so far, standard error included and colours left out.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_line: Callable[[str], None] | None = None,
        extra_environment: Mapping[str, str] | None = None,
        terminal: bool = False,
    ) -> None:
        """`on_line` gets each line as it comes, in another thread. With `terminal` it is printed for people."""
        self.command = " ".join(command)
        self.lines: list[str] = []
        self._on_line = on_line
        self._grown = threading.Condition()
        self._ended = False
        stream, its_end = _open_terminal() if terminal else os.pipe()
        try:
            # Its own session: Ctrl-C on the terminal reaches us alone, and we decide who ends in which order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=its_end,
                stderr=its_end,
                env=environment() | dict(extra_environment or {}),
                start_new_session=True,
            )
        except BaseException:
            os.close(stream)
            raise
        finally:
            os.close(its_end)
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(stream, errors="replace"),), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The command's own: `ip netns exec` replaces itself by what it runs."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that killed it."""
        return self._process.poll()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, *texts: str, since: int = 0, timeout: float = 10.0) -> str:
        """The first line from `lines[since]` on that has all `texts` in it, in capitals or not, waiting for it.

        Raises LabError, with all that was printed, when the process ends without it or the time is over.
        """
        wanted = " and ".join(map(repr, texts))
        folded = [text.casefold() for text in texts]
        deadline = time.monotonic() + patient(timeout)
        with self._grown:
            while True:
                for line in self.lines[since:]:
                    if all(text in line.casefold() for text in folded):
                        return line
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise LabError(f"{self.command}: {self._state()} without {wanted}:\n{self.output[-_OUTPUT_LIMIT:]}")
                self._grown.wait(left)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10.0) -> int:
        """Its exit code after the signal. Raises LabError, and kills it, when it does not end in time."""
        self._process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit code; all its output is in `lines` then."""
        timeout = patient(timeout)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.command}: no end after {timeout:g} s:\n{self.output[-_OUTPUT_LIMIT:]}") from None
        self._reader.join(timeout=2.0)
        return code

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=2.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()

    def _state(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            # Output ends a moment before the process does.
            return f"ended with exit code {self._process.wait(1.0 if self._ended else 0.0)}"
        return "still running"

    def _read(self, stream: IO[str]) -> None:
        # A terminal whose other end is closed gives EIO instead of an end.
        with stream, suppress(OSError):
            for line in stream:
                self._take(line.rstrip("\r\n"))
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def _take(self, line: str) -> None:
        if self._on_line is not None:
            self._on_line(line)
        with self._grown:
            self.lines.append(without_colours(line))
            self._grown.notify_all()


def _open_terminal() -> tuple[int, int]:
    """Our end and the process's end of a terminal as wide as ours, less what we put before each line."""
    ours, its = pty.openpty()
    width = shutil.get_terminal_size((120, 50)).columns - _MARGIN
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    return ours, its

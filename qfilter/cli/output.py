"""What the commands write: colours only on a terminal and never with NO_COLOR, errors on standard error."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from typing import NoReturn

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style as Look
from rich.text import Text

from qfilter.errors import (
    Diagnostic,
    FirewallError,
    PolicyError,
    PrivilegeError,
    QFilterError,
    QueueError,
    UnsupportedError,
)
from qfilter.events.line import Style, plain
from qfilter.events.sinks import StreamSink
from qfilter.events.writer import Writer
from qfilter.model.verdict import Kind
from qfilter.policy.render import as_dict, as_text

_LOOKS = {
    Kind.ACCEPT: "green",
    Kind.DROP: "red",
    Kind.REJECT: "magenta",
    Kind.QUEUE: "cyan",
    Kind.REPEAT: "cyan",
    "failure": "bold red",
    "dim": "dim",
}
"""By the names of `qfilter.events.line.Style`; what is not here is bold."""

_CODES: tuple[tuple[type[QFilterError], int], ...] = (
    (PrivilegeError, 3),
    (UnsupportedError, 4),
    (QueueError, 4),
    (FirewallError, 4),
)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Left to `main`, which knows the exit code."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error. rich knows terminals and NO_COLOR."""
    out = _Console(stderr=stderr, highlight=False, soft_wrap=True)
    if out.no_color:  # rich would still write bold
        return _Console(stderr=stderr, highlight=False, soft_wrap=True, color_system=None)
    return out


def style_on(out: Console) -> Style:
    """The looks of lines and tables on a console: none but on a terminal that takes colours. Safe in any thread."""
    if not out.is_terminal or out.no_color or out.color_system is None:
        return plain
    looks = {name: Look.parse(look) for name, look in _LOOKS.items()}
    other = Look.parse("bold")
    return lambda text, name: looks.get(name, other).render(text, color_system=ColorSystem.STANDARD)


class _Unhurried(io.TextIOBase):
    """A stream of text that takes everything at once."""

    def __init__(self, descriptor: int, writer: Writer[bytes]) -> None:
        self._descriptor = descriptor
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.put(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


@contextmanager
def unhurried(*, stderr: bool = False) -> Iterator[None]:
    """Meanwhile nobody who writes to standard output, or error, waits for its reader, nor fails without one.

    At the end the reader has a few seconds for what waits; the rest is lost.
    """
    descriptor, redirected = (2, redirect_stderr) if stderr else (1, redirect_stdout)
    writer: Writer[bytes] = Writer(StreamSink(descriptor, bytes), lost=_lost, name="qfilter-output")
    with closing(writer), redirected(_Unhurried(descriptor, writer)):
        yield


def _lost(count: int) -> bytes:
    return f"qfilter: {count:,} messages could not be written here\n".encode("ascii")


def report(error: Exception) -> int:
    """Write what ended a command for the person who must act on it, and return the exit code."""
    if isinstance(error, QFilterError):
        return report_error(error)
    return _report_file(error) if isinstance(error, OSError) else _report_fault(error)


def report_error(error: QFilterError) -> int:
    """Write an error for the person who must act on it, and return the exit code."""
    if isinstance(error, PolicyError):
        write_diagnostics(error.diagnostics)
        return 4 if {each.kind for each in error.diagnostics} == {"unsupported"} else 1
    _write_error(str(error))
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def _report_file(error: OSError) -> int:
    """The same for a file that cannot be read or written."""
    where = f"{error.filename}: " if error.filename is not None else ""
    _write_error(f"{where}{error.strerror or error}")
    return 1


def _report_fault(fault: Exception) -> int:
    """The same for what nobody expected: enough to report it by."""
    place = traceback.extract_tb(fault.__traceback__)[-1]
    _write_error(f"a fault of qfilter's own: {type(fault).__name__}: {fault} ({place.filename}:{place.lineno})")
    return 5


def write_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Every mistake with its line and caret, on standard error."""
    out = console(stderr=True)
    for diagnostic in diagnostics:
        head, _, rest = as_text([diagnostic]).rstrip("\n").partition("\n")
        colour = "bold red" if diagnostic.severity == "error" else "bold yellow"
        out.print(Text(head, style=colour))
        if rest:
            out.print(Text(rest))


def warn(message: str) -> None:
    """One line on standard error about what is odd but no mistake."""
    console(stderr=True).print(Text.assemble(("warning: ", "bold yellow"), message))


def write_json(value: object) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def diagnostics_as_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """For editors and CI."""
    return [dict(as_dict(diagnostic)) for diagnostic in diagnostics]


def _write_error(message: str) -> None:
    console(stderr=True).print(Text.assemble(("error: ", "bold red"), message))
